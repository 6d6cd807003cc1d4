// Follows events over Socket.IO with nothing but the browser's WebSocket, and resumes after every break.
//
// Engine.IO wraps each text frame in one digit (0 open, 1 close, 2 ping, 3 pong, 4 message); inside a message
// Socket.IO has one more (0 connect, 1 disconnect, 2 event, 3 ack, 4 connect error).
const SHOWN = 500;
const SUBSCRIBE_ACK = "1";
const element = (id) => document.getElementById(id);

let socket = null;
let cursor = null; // what a client keeps: the place behind the last event it has seen
let attempt = 0;

function wanted() {
  const fields = new FormData(element("filter"));
  const types = fields.get("types").split(/[\s,]+/).filter(Boolean);
  const prd = fields.get("prd").trim();
  const filter = {};
  if (prd) filter.prd_ids = [prd];
  if (types.length) filter.types = types;
  return { filter, from: cursor ?? { last: Number(fields.get("last")) || 0 } };
}

function say(text) {
  element("state").textContent = text;
}

// Event text is put in as text, never as markup.
function show(events) {
  const list = element("events");
  for (const event of events) {
    const item = document.createElement("li");
    const where = [event.project, event.prd_id, event.story_id].filter(Boolean).join("/");
    item.textContent = `${event.timestamp}  ${event.type}  ${where}  ${JSON.stringify(event.data)}`;
    list.prepend(item);
  }
  while (list.childElementCount > SHOWN) list.lastElementChild.remove();
}

function subscribe() {
  socket.send(`42${SUBSCRIBE_ACK}${JSON.stringify(["subscribe", wanted()])}`);
}

const handlers = {
  events({ upto, events }) {
    show(events);
    cursor = upto;
  },
  reset(reset) {
    say(`reset: ${reset.reason}`);
    cursor = reset.cursor;
  },
  error(problem) {
    say(`${problem.message} ${problem.hint}`);
  },
};

function subscribed(answer) {
  if (answer.error) {
    say(`${answer.error.message} ${answer.error.hint}`);
    return;
  }
  attempt = 0;
  cursor = answer.cursor;
  say(answer.reason ? `${answer.status}: ${answer.reason}` : answer.status);
}

function receive(text) {
  if (text === "2") socket.send("3");
  else if (text.startsWith("0")) {
    const token = sessionStorage.getItem("claude-loop-token"); // `claude-loop open` puts one there
    socket.send(token ? `40${JSON.stringify({ token })}` : "40");
  } else if (text.startsWith("40")) subscribe();
  else if (text.startsWith("44")) say(JSON.parse(text.slice(2)).message);
  else if (text.startsWith("42")) {
    const [name, payload] = JSON.parse(text.slice(2));
    handlers[name]?.(payload);
  } else if (text.startsWith(`43${SUBSCRIBE_ACK}`)) subscribed(JSON.parse(text.slice(3))[0]);
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/socket.io/?EIO=4&transport=websocket`);
  socket.onmessage = ({ data }) => receive(data);
  socket.onclose = () => {
    attempt += 1;
    say("the connection is gone; trying again");
    setTimeout(connect, Math.min(200 * 2 ** attempt, 5000));
  };
}

element("filter").addEventListener("submit", (submit) => {
  submit.preventDefault();
  cursor = null;
  element("events").replaceChildren();
  if (socket?.readyState === WebSocket.OPEN) subscribe();
});

connect();
