import { problemIn, type Credentials } from "./agent-service.js";
import { problemOf, ProblemError, type Problem } from "./problems.js";

export type FetchCredentials = (signal: AbortSignal) => Promise<Credentials>;

/** The same credentials; what `fetch` or LiveKit's TokenSource throws is told apart as a ProblemError. */
export function withProblems(fetchCredentials: FetchCredentials): FetchCredentials {
  return async (signal) => {
    try {
      return await fetchCredentials(signal);
    } catch (error) {
      throw new ProblemError(credentialsProblem(error));
    }
  };
}

function credentialsProblem(error: unknown): Problem {
  const detail = String(error);
  // This is how fetch says that nobody answered.
  if (error instanceof TypeError) return { code: "service-unreachable", retryable: true, detail };
  // TokenSource.endpoint tells the status in its message only.
  const status = /received (\d{3})\b/.exec(detail)?.[1];
  if (!(error instanceof ProblemError) && status) {
    return { ...problemIn(new Response(null, { status: Number(status) }), null), detail };
  }
  return problemOf(error);
}
