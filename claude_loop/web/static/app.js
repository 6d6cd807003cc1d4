// A plain page: cards and the last events, asked for once a second. Everything is put in as text, never as markup.
const SHOWN_EVENTS = 200;
const ATTENTION = new Set(["waiting", "vanished", "failed", "stalled"]);
const element = (id) => document.getElementById(id);
let cursor = null;

// `claude-loop open` leads here with a code that works once; what it is exchanged for stays in this tab.
async function enter() {
  const code = location.hash.slice(1);
  if (!code) return;
  history.replaceState(null, "", location.pathname);
  const answer = await fetch("/api/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ code }),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${body.error.message} ${body.error.hint}`);
  sessionStorage.setItem("claude-loop-token", body.token);
}

async function ask(path) {
  const token = sessionStorage.getItem("claude-loop-token");
  const answer = await fetch(path, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  const body = await answer.json();
  if (answer.status === 401 && token) {
    // Sessions end with the daemon that opened them. Its successor may know this browser by its connection.
    sessionStorage.removeItem("claude-loop-token");
    return ask(path);
  }
  if (answer.status === 401) throw new Error("This page needs a new session: run `claude-loop open`.");
  if (!answer.ok) throw new Error(`${body.error.message} ${body.error.hint}`);
  return body;
}

function cell(text, kind) {
  const made = document.createElement("td");
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function duration(ms) {
  const minutes = Math.floor(ms / 60000);
  if (minutes < 1) return `${Math.floor(ms / 1000)}s`;
  return minutes < 60 ? `${minutes}m` : `${Math.floor(minutes / 60)}h${String(minutes % 60).padStart(2, "0")}m`;
}

function stories({ counts }) {
  const done = counts.claimed + counts.verified;
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  return `${done} of ${all} done, ${counts.verified} verified`;
}

function showCards(prds) {
  element("no-prds").hidden = prds.length > 0;
  element("prds").replaceChildren(...prds.map((card) => {
    const row = document.createElement("tr");
    const name = [card.project, card.prd_id].filter(Boolean).join("/");
    const why = card.waiting ? `: ${card.waiting.reason}` : card.why.length ? `: ${card.why.join(", ")}` : "";
    row.append(
      cell(card.title ? `${name} ${card.title}` : name),
      cell(card.state + why, ATTENTION.has(card.group) ? "attention" : ""),
      cell(stories(card)),
      cell(`${duration(card.silent_ms)} ago`, "quiet"),
    );
    return row;
  }));
}

function showEvents(events) {
  const list = element("events");
  for (const event of events) {
    const item = document.createElement("li");
    const where = [event.project, event.prd_id, event.story_id].filter(Boolean).join("/");
    const time = new Date(event.timestamp).toLocaleTimeString();
    item.textContent = `${time}  ${event.type}  ${where}  ${JSON.stringify(event.data)}`;
    list.prepend(item);
  }
  while (list.childElementCount > SHOWN_EVENTS) list.lastElementChild.remove();
}

async function refresh() {
  if (cursor === null) {
    const { log } = await ask("/status");
    showEvents((await ask(`/api/events?order=desc&limit=50&before=${log.cursor}`)).events.reverse());
    cursor = log.cursor;
  }
  let page;
  do {
    page = await ask(`/api/events?limit=1000&after=${cursor}`);
    showEvents(page.events.slice(-SHOWN_EVENTS));
    cursor = page.cursor;
  } while (page.more);
  showCards((await ask("/api/prds")).prds);
}

async function run() {
  try {
    await enter();
  } catch (failure) {
    element("state").textContent = failure.message;
    return;
  }
  for (;;) {
    try {
      await refresh();
      element("state").textContent = "live";
    } catch (failure) {
      element("state").textContent = failure instanceof TypeError ? "the daemon does not answer" : failure.message;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

run();
