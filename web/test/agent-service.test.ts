import { describe, expect, it, vi } from "vitest";
import { AgentService, tokenEndpoint } from "../src/agent-service";
import { delayAfter, type Backoff } from "../src/backoff";
import { claimIdentity, remembered, sessionIdentity } from "../src/identity";
import { problemOf } from "../src/problems";

function answering(status: number, body: unknown, headers: Record<string, string> = {}) {
  const seen: { url: string; init: RequestInit }[] = [];
  const fetch = async (url: RequestInfo | URL, init?: RequestInit) => {
    seen.push({ url: String(url), init: init ?? {} });
    return new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers });
  };
  return { fetch, seen };
}

async function problemFrom(status: number, body: unknown, headers: Record<string, string> = {}) {
  const { fetch } = answering(status, body, headers);
  const service = new AgentService({ roomName: "demo", fetch });
  return problemOf(await service.requestAgent("token").catch((error: unknown) => error));
}

describe("the requests", () => {
  it("ask for an agent as a member of the room", async () => {
    const { fetch, seen } = answering(200, { dispatchId: "AD_1", reused: true, success: true });
    const service = new AgentService({
      roomName: "a room",
      agentName: "helper",
      timezone: "Europe/Vienna",
      fetch,
    });
    expect(await service.requestAgent("token")).toMatchObject({ dispatchId: "AD_1", reused: true });
    expect(seen[0]?.url).toBe("/api/livekit/dispatch-agent");
    expect(seen[0]?.init).toMatchObject({ method: "POST", headers: { Authorization: "Bearer token" } });
    expect(JSON.parse(String(seen[0]?.init.body))).toEqual({
      roomName: "a room",
      agentName: "helper",
      timezone: "Europe/Vienna",
    });
  });

  it("wait for an agent as long as the page does, and no longer", async () => {
    const { fetch, seen } = answering(200, { dispatchId: "AD_1", reused: true, ready: true });
    const page = new AbortController();
    const service = new AgentService({ roomName: "demo", fetch });
    expect(await service.awaitAgent("token", page.signal)).toMatchObject({ ready: true });
    expect(JSON.parse(String(seen[0]?.init.body))).toEqual({ roomName: "demo", wait: "ready" });
    expect(seen[0]?.init.keepalive).toBe(false);
    page.abort();
    expect(seen[0]?.init.signal?.aborted).toBe(true);
  });

  it("name the room in the query where there is no body", async () => {
    const { fetch, seen } = answering(200, { hasAgent: false, state: "none" });
    await new AgentService({ roomName: "a&b", baseUrl: "https://x", fetch }).status("token");
    expect(seen[0]?.url).toBe("https://x/api/livekit/agent-status?roomName=a%26b");
  });

  it("give an agent back only where nobody else is with it", async () => {
    const { fetch, seen } = answering(200, { success: true });
    await new AgentService({ roomName: "demo", agentName: "helper", fetch }).giveBack("token");
    expect(seen[0]?.init.method).toBe("DELETE");
    expect(seen[0]?.url).toBe("/api/livekit/dispatch-agent?roomName=demo&agentName=helper&onlyIfEmpty=true");
  });

  it("fetch credentials without an agent in them", async () => {
    const { fetch, seen } = answering(201, { server_url: "ws://x", participant_token: "jwt" });
    const credentials = tokenEndpoint({ url: "/token", roomName: "demo", identity: "me", fetch });
    const answer = await credentials(new AbortController().signal);
    expect(answer).toEqual({ serverUrl: "ws://x", participantToken: "jwt" });
    expect(JSON.parse(String(seen[0]?.init.body))).toEqual({ room_name: "demo", participant_identity: "me" });
  });
});

describe("the problem behind an answer", () => {
  it.each([
    [401, { code: "unauthenticated" }, "not-allowed", false],
    [403, { code: "forbidden" }, "not-allowed", false],
    [404, { code: "not_found" }, "misconfigured", false],
    [422, { code: "invalid" }, "misconfigured", false],
    [429, { code: "rate_limited", retryable: true }, "service-busy", true],
    [429, { code: "at_capacity", retryable: true }, "at-capacity", true],
    [408, { code: "too_slow", retryable: true }, "service-unreachable", true],
    [503, { code: "busy", retryable: true }, "service-busy", true],
    [500, { code: "internal", retryable: false }, "service-unreachable", false],
    [502, { code: "livekit_refused", retryable: false }, "misconfigured", false],
    [502, "<html>Bad Gateway</html>", "service-unreachable", true],
    [503, { code: "livekit_unavailable", retryable: true }, "livekit-unreachable", true],
    [503, { code: "database_unavailable", retryable: true }, "service-unreachable", true],
    [504, { code: "livekit_timeout", retryable: true }, "livekit-unreachable", true],
    [503, { code: "no_worker", retryable: true }, "no-agent", true],
    [503, { code: "crash_loop", retryable: true }, "no-agent", true],
    [504, { code: "join_timeout", retryable: true }, "no-agent", true],
    [409, { code: "agent_ended", retryable: true }, "no-agent", true],
    [409, { code: "on_hold", retryable: false }, "no-agent", false],
    [200, "<html>a captive portal</html>", "misconfigured", false],
  ])("%d %j is %s", async (status, body, code, retryable) => {
    expect(await problemFrom(status, body)).toMatchObject({ code, retryable });
  });

  it("carries how long to stay away", async () => {
    expect(await problemFrom(503, {}, { "Retry-After": "5" })).toMatchObject({ retryAfterMs: 5_000 });
    expect(await problemFrom(503, {}, { "Retry-After": "soon" })).not.toHaveProperty("retryAfterMs");
  });

  it("is the service's when nobody answers", async () => {
    const fetch = () => Promise.reject(new TypeError("Failed to fetch"));
    const service = new AgentService({ roomName: "demo", fetch });
    const problem = problemOf(await service.status("token").catch((error: unknown) => error));
    expect(problem).toMatchObject({ code: "service-unreachable", retryable: true });
  });
});

describe("the back-off", () => {
  const backoff: Backoff = { tries: 4, firstMs: 500, longestMs: 1_500, longestRetryAfterMs: 30_000 };

  it("doubles up to its limit, and ends", () => {
    expect([1, 2, 3, 4].map((tried) => delayAfter(tried, undefined, backoff, 1))).toEqual([
      500,
      1000,
      1500,
      null,
    ]);
  });

  it("spreads over half of each delay", () => {
    expect(delayAfter(1, undefined, backoff, 0)).toBe(250);
  });

  it("never comes before Retry-After, and leaves a long one to the person", () => {
    expect(delayAfter(1, 7_000, backoff, 1)).toBe(7_000);
    expect(delayAfter(1, 60_000, backoff, 1)).toBeNull();
  });
});

function storageWith(kept = new Map<string, string>()): Storage {
  return {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  } as Partial<Storage> as Storage;
}

/** A browser's locks; a request for a held lock waits until its signal aborts. */
function locksOf(held = new Set<string>()): LockManager {
  const request = async (name: string, { signal }: LockOptions, hold: () => unknown) => {
    if (held.has(name)) throw signal?.reason;
    held.add(name);
    return hold();
  };
  return { request } as unknown as LockManager;
}

describe("the identity", () => {
  it("is the same for as long as the tab keeps it", () => {
    const storage = storageWith();
    const first = sessionIdentity("user", storage);
    expect(first).toMatch(/^user-[0-9a-f]{12}$/);
    expect(sessionIdentity("user", storage)).toBe(first);
  });

  it("is made up where the browser keeps nothing", () => {
    expect(remembered("key", () => "made", null)).toBe("made");
  });

  it("is claimed by one tab, and a duplicate of that tab is somebody else, and stays so", async () => {
    vi.spyOn(AbortSignal, "timeout").mockReturnValue(AbortSignal.abort());
    const held = new Set<string>();
    const kept = new Map<string, string>();
    const first = await claimIdentity("user", storageWith(kept), locksOf(held));
    expect(sessionIdentity("user", storageWith(kept))).toBe(first);
    const copied = storageWith(new Map(kept));
    const second = await claimIdentity("user", copied, locksOf(held));
    expect(second).not.toBe(first);
    // The page that held it closed with a refresh.
    held.clear();
    expect(await claimIdentity("user", copied, locksOf(held))).toBe(second);
    expect(await claimIdentity("user", storageWith(kept), locksOf(held))).toBe(first);
  });

  it("is not doubted where the browser has no locks, or lets nobody have one", async () => {
    const storage = storageWith();
    const identity = sessionIdentity("user", storage);
    const refused = { request: () => Promise.reject(new DOMException("no", "SecurityError")) };
    expect(await claimIdentity("user", storage, refused as unknown as LockManager)).toBe(identity);
    vi.stubGlobal("navigator", {});
    expect(await claimIdentity("user", storage)).toBe(identity);
    vi.unstubAllGlobals();
  });
});
