// Node's socket.io-client, told by its arguments what to do; prints a line of JSON for everything it is sent.
//
//   node socketio_client.mjs URL '{"transports": [...], "auth": {...}, "emit": [[name, payload], ...], "follow": true}'
//
// `emit` is sent after each connect, with an answer asked for. With `follow`, it subscribes in `auth`, keeps its cursor
// and gives it at every reconnect.
import { io } from "socket.io-client";

const [url, options] = [process.argv[2], JSON.parse(process.argv[3] ?? "{}")];
const say = (...line) => console.log(JSON.stringify(line));

let cursor = options.from ?? "now";
const auth = (give) =>
  give(options.follow ? { ...options.auth, subscribe: { filter: options.filter ?? {}, from: cursor } } : (options.auth ?? {}));

const socket = io(url, {
  transports: options.transports ?? ["polling", "websocket"],
  reconnectionDelay: 50,
  reconnectionDelayMax: 200,
  auth,
});

socket.on("connect", async () => {
  say("connect", socket.io.engine.transport.name);
  for (const [name, payload] of options.emit ?? []) {
    say("answer", name, await socket.timeout(5000).emitWithAck(name, payload));
  }
});
socket.on("connect_error", (error) => say("connect_error", error.message, error.data ?? null));
socket.on("disconnect", (reason) => say("disconnect", reason));
socket.io.engine.on("upgrade", (transport) => say("upgrade", transport.name));
socket.onAny((name, payload) => {
  if (name === "connected" && payload.subscription) cursor = payload.subscription.cursor;
  if (name === "events") {
    if (payload.prev !== cursor) say("gap", cursor, payload.prev);
    cursor = payload.upto;
  }
  if (name === "reset") cursor = payload.cursor;
  say(name, payload);
});

process.stdin.on("end", () => socket.close()).resume();
