/** The kinds of problem, as far as they differ for the person in front of the page. */
export type ProblemCode =
  | "no-agent"
  | "session-over"
  | "service-unreachable"
  | "service-busy"
  | "at-capacity"
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
  /** The wait that the service demands before a retry. */
  readonly retryAfterMs?: number;
  /** For developers; not translated. */
  readonly detail?: string;
}

/** Carries a problem from where it occurred to the code that shows it. */
export class ProblemError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail ?? problem.code);
    this.name = "ProblemError";
    this.problem = problem;
  }
}

/** The problem behind any thrown value; an unexpected error counts as misconfigured. */
export function problemOf(error: unknown): Problem {
  if (error instanceof ProblemError) return error.problem;
  return { code: "misconfigured", retryable: false, detail: String(error) };
}
