// The agent lifecycle service, which only this backend calls: its key never reaches a browser.

/** Longer than the service makes a call wait for an agent. */
const TIMEOUT_MS = 75_000;

interface Failure {
  code: string;
  retryable: boolean;
}

/** Calls the service; an answer that is no success is the one for the page. */
export async function callService<T>(method: string, path: string, body?: object): Promise<T | Response> {
  let answer: Response;
  try {
    answer = await fetch(`${process.env.AGENT_SERVICE}/api/livekit/${path}`, {
      method,
      headers: {
        Authorization: `Bearer ${process.env.AGENT_SERVICE_KEY}`,
        "Content-Type": "application/json",
      },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
      cache: "no-store",
    });
  } catch {
    return failure({ code: "agents_unreachable", retryable: true }, 503);
  }
  if (answer.ok) return (await answer.json()) as T;
  // What is wrong with the key is this backend's own fault.
  if (answer.status === 401 || answer.status === 403) {
    return failure({ code: "misconfigured", retryable: false }, 502);
  }
  // A proxy in between answers without JSON.
  const unknown = { code: "agents_unreachable", retryable: answer.status >= 502 };
  const { code, retryable } = (await answer.json().catch(() => unknown)) as Failure;
  return failure({ code, retryable }, answer.status, answer.headers.get("Retry-After"));
}

function failure(body: Failure, status: number, retryAfter: string | null = null): Response {
  return Response.json(body, { status, headers: retryAfter ? { "Retry-After": retryAfter } : {} });
}
