// Made by web/generate_types.py from the daemon's schemas. Do not edit: change those and run it.

export type StoryState = "todo" | "running" | "failing" | "blocked" | "done·claimed" | "done·verified";

export type RunState = "running" | "waiting" | "paused" | "stalled" | "vanished" | "failed" | "done·claimed" | "done·verified";

export type SessionState = "running" | "waiting" | "retrying" | "compacting" | "idle" | "ended";

export type WaitingFor = "human" | "rate_limit" | "other";

export type AttemptOutcome = "running" | "completed" | "failed" | "blocked" | "restarted" | "left";

export type Group = "waiting" | "vanished" | "failed" | "stalled" | "paused" | "running" | "today" | "earlier";

export interface AgentCall {
  tool: string;
  summary: string | null;
  since: number;
}

export interface AgentLine {
  session_id: string;
  agent: string | null;
  state: SessionState;
  doing: string | null;
  since: number;
  last_at: number;
  story_id: string | null;
  call: AgentCall | null;
}

export interface Attempt {
  attempt: number;
  started_at: number;
  finished_at: number | null;
  worked_ms: number | null;
  outcome: AttemptOutcome;
}

export interface Call {
  seq: number;
  call_id: string | null;
  tool: string;
  summary: string | null;
  started_at: number;
  ended_at: number | null;
  duration_ms: number | null;
  ok: boolean | null;
  error: string | null;
  agent_id: string | null;
}

export interface Claim {
  story_id: string;
  why: string[];
}

export interface CommitSummary {
  seq: number;
  at: number;
  story_id: string | null;
  attempt: number;
  hash: string;
  subject: string | null;
  branch: string | null;
}

export interface Counts {
  todo: number;
  running: number;
  failing: number;
  blocked: number;
  claimed: number;
  verified: number;
}

export interface ErrorSummary {
  seq: number;
  at: number;
  story_id: string | null;
  error: string;
}

export interface Estimate {
  from_at: number;
  to_at: number;
  stories: number;
}

export interface EventJson {
  seq: number;
  id: string;
  type: string;
  project: string | null;
  prd_id: string | null;
  story_id: string | null;
  run_id: string | null;
  session_id: string | null;
  source: string;
  timestamp: string;
  received_at: string;
  data: Record<string, unknown>;
}

export interface EventPage {
  events: EventJson[];
  cursor: string;
  more: boolean;
  reset?: ResetJson;
}

export interface Figures {
  events_per_second: (number | null)[];
  commit_ms_p50: (number | null)[];
  commit_ms_p99: (number | null)[];
  fanout_ms_p99: (number | null)[];
  clients: (number | null)[];
  spool_backlog_bytes: (number | null)[];
  rejected_total: (number | null)[];
  log_events: (number | null)[];
  log_bytes: (number | null)[];
  memory_bytes: (number | null)[];
}

export interface Last {
  seq: number;
  at: number;
  type: string;
}

export interface Notified {
  kind: string;
  at: number;
  channel: string | null;
}

export interface OpenCall {
  call_id: string | null;
  tool: string;
  summary: string | null;
  since: number;
  agent_id: string | null;
}

export interface OpenSubagent {
  agent_id: string;
  agent_type: string | null;
  description: string | null;
  since: number;
}

export interface OutputChunk {
  seq: number;
  at: number;
  iteration: number | null;
  text: string;
  offset: number;
  bytes: number;
  left_out: number;
}

export interface OutputPage {
  run_id: string;
  chunks: OutputChunk[];
  cursor: string;
  more: boolean;
  reset?: ResetJson;
}

export interface Owner {
  pid: number;
  start_ticks: number | null;
  boot_id: string | null;
  pid_namespace: string | null;
}

export interface Passage {
  seq: number;
  at: number;
  kind: "started" | "prompt" | "message" | "waiting" | "resumed" | "idle" | "retrying" | "compacted" | "test" | "commit" | "error" | "ended";
  text: string | null;
  agent_id: string | null;
}

export interface PastWait {
  waited_for: WaitingFor;
  reason: string;
  since: number;
  ended_at: number;
  story_id: string | null;
}

export interface Patch {
  seq: number;
  at: number;
  path: string[];
  value: unknown;
}

export interface PatchesAnswer {
  documents?: Record<string, Record<string, unknown>>;
  patches: Patch[];
  cursor: string;
  reset?: ResetJson;
}

export interface Paused {
  since: number;
  reason: string | null;
}

export interface PrdDocument {
  project: string | null;
  prd_id: string;
  title: string | null;
  run_id: string;
  runs: number;
  created_at: number;
  archived_at: number | null;
}

export interface ProgressSummary {
  at: number;
  current: number;
  total: number;
  message: string | null;
}

export interface ProjectDocument {
  project: string;
  last: Last;
}

export interface ResetJson {
  reason: "trimmed" | "epoch" | "diverged" | "ahead";
  cursor: string;
}

export interface Retrying {
  error: string;
  attempt: number | null;
  max_attempts: number | null;
  until: number | null;
  since: number;
}

export interface RunDocument {
  project: string | null;
  prd_id: string;
  run_id: string;
  number: number;
  opened_by: string;
  begun_by: string[];
  superseded_by: string | null;
  state: RunState;
  why: string[];
  started_at: number;
  finished_at: number | null;
  prd_success: boolean | null;
  run_success: boolean | null;
  exit_code: number | null;
  last: Last;
  owner: Owner | null;
  owned: boolean;
  vanished_at: number | null;
  waiting: Waiting | null;
  waits: Waiting[];
  past_waits: PastWait[];
  waited_ms: number;
  paused: Paused | null;
  iteration: number | null;
  max_iterations: number | null;
  total_stories: number | null;
  stories: number;
  counts: Counts;
  running: StoryInWork[];
  current: StoryInWork | null;
  left: string[];
  claims: Claim[];
  tests: number;
  last_test: TestSummary | null;
  commits: number;
  last_commit: CommitSummary | null;
  errors: number;
  last_error: ErrorSummary | null;
  recent_errors: ErrorSummary[];
  progress: ProgressSummary | null;
  story_times_ms: number[];
  estimate: Estimate | null;
  activity: number[];
  activity_width_ms: number;
  agents: AgentLine[];
  notified: Notified | null;
  output_bytes: number;
  usage: Usage | null;
  promise: string | null;
  promised_at: number | null;
}

export interface SeriesAnswer {
  step_ms: number;
  at: number[];
  series: Figures;
}

export interface SessionDetail {
  session: SessionView;
  outline: Passage[];
  calls: Call[];
  subagents: Subagent[];
  omitted: boolean;
}

export interface SessionDocument {
  project: string | null;
  prd_id: string | null;
  run_id: string | null;
  story_id: string | null;
  stories: StorySpan[];
  session_id: string;
  agent: string | null;
  model: string | null;
  title: string | null;
  cwd: string | null;
  state: SessionState;
  doing: string | null;
  doing_since: number | null;
  opened_at: number;
  first_at: number;
  ended_at: number | null;
  last: Last;
  waiting: Waiting | null;
  notified: Notified | null;
  retrying: Retrying | null;
  failed: ErrorSummary | null;
  compacting_since: number | null;
  idle: boolean;
  calls: number;
  failed_calls: number;
  open_calls: OpenCall[];
  subagents: OpenSubagent[];
  subagents_seen: number;
  prompts: number;
  last_prompt: string | null;
  last_message: string | null;
  progress: ProgressSummary | null;
}

export interface SessionView {
  project: string | null;
  prd_id: string | null;
  run_id: string | null;
  story_id: string | null;
  stories: StorySpan[];
  session_id: string;
  agent: string | null;
  model: string | null;
  title: string | null;
  cwd: string | null;
  state: SessionState;
  doing: string | null;
  doing_since: number | null;
  opened_at: number;
  first_at: number;
  ended_at: number | null;
  last: Last;
  waiting: Waiting | null;
  notified: Notified | null;
  retrying: Retrying | null;
  failed: ErrorSummary | null;
  compacting_since: number | null;
  idle: boolean;
  calls: number;
  failed_calls: number;
  open_calls: OpenCall[];
  subagents: OpenSubagent[];
  subagents_seen: number;
  prompts: number;
  last_prompt: string | null;
  last_message: string | null;
  progress: ProgressSummary | null;
  silent_ms: number;
}

export interface StatusAnswer {
  status: "healthy" | "unhealthy";
  reason: string | null;
  version: string;
  pid: number;
  url: string;
  home: string;
  started_at: string;
  uptime_seconds: number;
  clients: number;
  subscriptions: Record<string, number>;
  log: Record<string, unknown>;
  spool: Record<string, unknown> | null;
  notify: Record<string, unknown> | null;
  published: Record<string, unknown>;
  transports: Record<string, Record<string, unknown>>;
  tasks: Record<string, number>;
}

export interface StoryDocument {
  project: string | null;
  prd_id: string;
  run_id: string;
  story_id: string;
  number: number;
  title: string | null;
  priority: number | null;
  depends_on: string[];
  after: string[];
  circle: string[];
  needed_by: string[];
  done_before: boolean;
  state: StoryState;
  why: string[];
  attempt: number;
  attempts: Attempt[];
  completed: boolean;
  success: boolean | null;
  blocked: string | null;
  first_at: number;
  last_at: number;
  started_at: number | null;
  finished_at: number | null;
  worked_ms: number;
  waited_before_ms: number;
  tests: number;
  test_runs: TestSummary[];
  last_test: TestSummary | null;
  commits: number;
  recent_commits: CommitSummary[];
  last_commit: CommitSummary | null;
  errors: number;
  last_error: ErrorSummary | null;
  progress: ProgressSummary | null;
}

export interface StoryInWork {
  story_id: string;
  title: string | null;
  attempt: number;
  since: number;
}

export interface StorySpan {
  story_id: string | null;
  since: number;
}

export interface Subagent {
  agent_id: string;
  agent_type: string | null;
  description: string | null;
  started_at: number;
  ended_at: number | null;
}

export interface TestSummary {
  seq: number;
  at: number;
  story_id: string | null;
  attempt: number;
  passed: number | null;
  failed: number | null;
  total: number | null;
  duration_ms: number | null;
  failing: string[];
  failing_more: number;
}

export interface Usage {
  cost_usd: number | null;
  input_tokens: number | null;
  output_tokens: number | null;
}

export interface Waiting {
  for: WaitingFor;
  reason: string;
  since: number;
  until: number | null;
  overdue: boolean;
  story_id: string | null;
  session_id: string | null;
  agent_id: string | null;
}
