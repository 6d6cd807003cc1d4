/** Keys of the read model's documents, as claude_loop/progress/keys.py makes them. */

const NO_PROJECT = "*"; // an encoded project never is

function component(text: string): string {
  // Python's quote leaves less as it is than encodeURIComponent does.
  return encodeURIComponent(text).replace(/[!'()*]/g, (each) => "%" + each.charCodeAt(0).toString(16).toUpperCase());
}

const prdPath = (project: string | null, prd: string) =>
  `${project === null ? NO_PROJECT : component(project)}/${component(prd)}`;

export const PRDS = "prd/";
export const prdKey = (project: string | null, prd: string) => PRDS + prdPath(project, prd);
export const runsPrefix = (project: string | null, prd: string) => `run/${prdPath(project, prd)}/`;
export const runKey = (project: string | null, prd: string, run: string) => runsPrefix(project, prd) + component(run);
export const storiesPrefix = (project: string | null, prd: string, run: string) =>
  `story/${prdPath(project, prd)}/${component(run)}/`;
/** Agents' sessions of one PRD, and those without a PRD. */
export const AGENTS = "agent/";
export const sessionsPrefix = (project: string | null, prd: string) => `session/${prdPath(project, prd)}/`;
export const sessionKey = (project: string | null, prd: string | null, session: string) =>
  prd === null
    ? `${AGENTS}${project === null ? NO_PROJECT : component(project)}/${component(session)}`
    : sessionsPrefix(project, prd) + component(session);
