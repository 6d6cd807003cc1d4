// Follows events with Node's socket.io-client and resumes without a gap: npm install socket.io-client
//
//   node node_client.mjs [URL]
//
// The cursor is what a client keeps. After a break it asks for what lies behind it; the server answers with exactly
// that, or says `reset` and why.
import { io } from "socket.io-client";

const socket = io(process.argv[2] ?? "http://127.0.0.1:18790", { transports: ["websocket"] });
let cursor = { last: 20 };

socket.on("connect", () => {
  socket.emit("subscribe", { filter: { types: ["story.*", "test.run", "commit.created"] }, from: cursor }, (answer) => {
    if (answer.error) {
      console.error(`${answer.error.code}: ${answer.error.message} ${answer.error.hint}`);
      process.exit(1);
    }
    console.log(`-- ${answer.status}${answer.reason ? `: ${answer.reason}` : ""} --`);
    cursor = answer.cursor;
  });
});

socket.on("events", ({ upto, events }) => {
  for (const event of events) {
    console.log(event.timestamp, event.type, event.prd_id ?? "-", event.story_id ?? "-", JSON.stringify(event.data));
  }
  cursor = upto;
});

socket.on("reset", (reset) => {
  console.log(`-- reset: ${reset.reason} --`);
  cursor = reset.cursor;
});

socket.on("connect_error", (error) => console.error(`not connected: ${error.message}`));
