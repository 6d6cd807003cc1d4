// Made by web/generate_types.py from claude_loop/event_words.py. Do not edit: change that and run it.

export interface Words {
  mark: "begin" | "story" | "good" | "end" | "blocked" | "error" | "turn" | "plain" | "gone";
  words: string;
  tone: "running" | "good" | "bad" | "blocked" | "plain";
  field: string;
}

export const EVENT_WORDS: Record<string, Words> = {
  "story.started": { mark: "story", words: "started", tone: "running", field: "" },
  "story.blocked": { mark: "blocked", words: "blocked", tone: "blocked", field: "reason" },
  "error.occurred": { mark: "error", words: "error", tone: "bad", field: "error" },
  "agent.resumed": { mark: "begin", words: "goes on", tone: "running", field: "" },
  "agent.idle": { mark: "plain", words: "has finished its turn", tone: "plain", field: "" },
  "agent.message": { mark: "plain", words: "says", tone: "plain", field: "message" },
  "session.ended": { mark: "end", words: "session ended", tone: "plain", field: "reason" },
  "session.compacting": { mark: "turn", words: "shortens its context", tone: "plain", field: "trigger" },
  "session.compacted": { mark: "plain", words: "has shortened its context", tone: "plain", field: "trigger" },
  "prompt.submitted": { mark: "story", words: "prompt", tone: "plain", field: "prompt" },
  "task.created": { mark: "plain", words: "task", tone: "plain", field: "subject" },
  "task.completed": { mark: "good", words: "task done", tone: "good", field: "subject" },
  "output.chunk": { mark: "plain", words: "output", tone: "plain", field: "text" },
  "alert.sent": { mark: "plain", words: "notified", tone: "plain", field: "kind" },
  "alert.resolved": { mark: "plain", words: "told that it is over", tone: "plain", field: "kind" },
  "alert.failed": { mark: "error", words: "could not notify", tone: "bad", field: "reason" },
  "system.run_owned": { mark: "plain", words: "its process is watched", tone: "plain", field: "pid" },
  "system.run_vanished": { mark: "gone", words: "its process is gone without finishing", tone: "bad", field: "pid" },
};
