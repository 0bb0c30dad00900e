import { problemIn, type Credentials } from "./agent-service.js";
import { problemOf, ProblemError, type Problem } from "./problems.js";

export type FetchCredentials = (signal: AbortSignal) => Promise<Credentials>;

/** Wraps `fetchCredentials`: turns what `fetch` or LiveKit's TokenSource throws into a ProblemError. */
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
  // `fetch` throws this when nobody answered.
  if (error instanceof TypeError) return { code: "service-unreachable", retryable: true, detail };
  // TokenSource.endpoint has the status in its message only.
  const status = /received (\d{3})\b/.exec(detail)?.[1];
  if (!(error instanceof ProblemError) && status) {
    return { ...problemIn(new Response(null, { status: Number(status) }), null), detail };
  }
  return problemOf(error);
}
