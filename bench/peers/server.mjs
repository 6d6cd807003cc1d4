// Node's socket.io as it comes: `io.emit` for each event. Spoken to in lines of JSON, as the other servers are.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http);
const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const resident = () => process.memoryUsage().rss;
const turn = () => new Promise((resolve) => setImmediate(resolve));

async function flatOut(total) {
  for (let seq = 1; seq <= total; seq++) {
    io.emit("event", {
      seq,
      id: "01KAB0000000000000000000AA",
      type: "test.run",
      project: "shop",
      prd_id: "PRD-001",
      story_id: "US-001",
      run_id: null,
      session_id: null,
      source: "bench",
      timestamp: "2026-01-26T12:00:00.000Z",
      received_at: "2026-01-26T12:00:00.000Z",
      data: { ...data, t: Number(process.hrtime.bigint()) },
    });
    if (seq % 4 === 0) await turn(); // the sockets have theirs
  }
}

const data = {
  story_id: "US-001",
  passed: 12,
  failed: 0,
  total: 12,
  duration_ms: 1843,
  command: "python -m unittest -q",
};

http.listen(0, "127.0.0.1", () => say({ port: http.address().port, pid: process.pid }));
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (request.do === "stop") break;
  const began = Number(process.hrtime.bigint()); // CLOCK_MONOTONIC, as Python's
  if (request.do === "flat_out") await flatOut(request.with[0]);
  const cpu = process.cpuUsage();
  say({ began, cpu: (cpu.user + cpu.system) / 1e6, resident: resident() });
}
process.exit(0);
