"""The version of the engine."""

# Part of every configuration's key: raise it when the same configuration would train to different numbers.
# 2: a run that was resumed on EfficientNet goes on as if it had not been stopped.
# 3: EWC multiplies its strength into the springs once, which rounds otherwise than in every step.
# 4: convolutions and normalisation of the lab's own, and springs outside of autograd, round otherwise; live looks look
#    less often.
ENGINE_VERSION = "4"
