/** What can be wrong, by the difference it makes to the person in front of the page. */
export type ProblemCode =
  | "no-agent"
  | "service-unreachable"
  | "service-busy"
  | "not-allowed"
  | "livekit-unreachable"
  | "misconfigured"
  | "taken-over"
  | "room-closed"
  | "microphone-refused"
  | "microphone-missing";

export interface Problem {
  readonly code: ProblemCode;
  /** Whether the same request may succeed a little later. */
  readonly retryable: boolean;
  /** How long the service asks us to stay away. */
  readonly retryAfterMs?: number;
  /** For a developer's eyes; not translated. */
  readonly detail?: string;
}

/** A problem on its way from where it was met to whoever tells the person. */
export class ProblemError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail ?? problem.code);
    this.name = "ProblemError";
    this.problem = problem;
  }
}

/** The problem behind anything that was thrown; what nobody foresaw counts as misconfigured. */
export function problemOf(error: unknown): Problem {
  if (error instanceof ProblemError) return error.problem;
  return { code: "misconfigured", retryable: false, detail: String(error) };
}
