"""How results look: the numbers of each chart first, the chart second.

May know runs and studies. Must not know torch, training or Streamlit.
"""
