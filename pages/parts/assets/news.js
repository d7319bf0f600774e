// Looks every second whether runs have news, and has their part of the page drawn again when they do. See news.py.

const LOOK = 1000; // ms
const PATIENCE = 5000; // after asking for a drawing, which tells what it has seen: only where it got lost is it asked again

export default function ({ data, parentElement, setTriggerValue }) {
  const turn = (parentElement.turn = {}); // called again with newer data, an earlier call ends by itself
  const look = async () => {
    let wait = LOOK;
    try {
      const answer = await fetch(new URL(data.address, document.baseURI), { cache: "no-store" });
      const told = await answer.text();
      if (answer.ok && told !== data.seen && parentElement.turn === turn) {
        setTriggerValue("news", true);
        wait = PATIENCE;
      }
    } catch {
      // The server is away, which the page says by itself.
    }
    if (parentElement.turn === turn) setTimeout(look, wait);
  };
  setTimeout(look, LOOK);
  return () => { parentElement.turn = null; };
}
