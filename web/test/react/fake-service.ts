import { vi } from "vitest";

type Answer = (body: Record<string, unknown>) => Response;

/** The service's endpoints behind `fetch`; records each call. */
export function fakeService() {
  const calls: string[] = [];
  const answers: Record<string, Answer> = {
    "POST token": (body) =>
      json({ server_url: "ws://livekit", participant_token: `token of ${body.participant_identity}` }, 201),
    "POST dispatch-agent": () => json({ success: true, dispatchId: "AD_1", reused: false }),
    "GET agent-status": () => json({ hasAgent: true, state: "starting" }),
    "DELETE dispatch-agent": () => json({ success: true, dispatchId: "AD_1" }),
  };
  const bodies: Record<string, unknown>[] = [];
  vi.stubGlobal("fetch", async (input: RequestInfo | URL, init: RequestInit = {}) => {
    const url = new URL(String(input), "http://page");
    const call = `${init.method} ${url.pathname.replace("/api/livekit/", "")}`;
    const body = JSON.parse(String(init.body ?? "{}")) as Record<string, unknown>;
    calls.push(call);
    bodies.push(body);
    const answer = answers[call];
    if (!answer) throw new Error(`the service has no ${call}`);
    return answer(body);
  });
  return { calls, bodies, answers };
}

export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers });
}
