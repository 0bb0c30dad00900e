import { ProblemError, type Problem } from "./problems.js";

/** Credentials for the room; the service accepts the token too. */
export interface Credentials {
  readonly serverUrl: string;
  readonly participantToken: string;
}

export interface Granted {
  readonly dispatchId: string | null;
  readonly reused: boolean;
  /** Where the agent comes from: it had waited, was dispatched for this call, or was there. */
  readonly source?: "warm" | "dispatched" | "reused" | null;
  /** `on_hold`: a human has taken over, and there is no agent. */
  readonly state?: string;
  /** What the service left out of the request, in plain words. */
  readonly warnings?: readonly string[];
  /** Whether the agent is in the room and answers. */
  readonly ready?: boolean;
  /** How long a call that waited for it has waited; null for one that did not. */
  readonly readyAfterMs?: number | null;
}

export interface AgentStatus {
  readonly hasAgent: boolean;
  readonly state: string;
  readonly dispatchId?: string | null;
  readonly createdAt?: string;
  readonly lastActivityAt?: string;
  readonly participantCount?: number;
  /** Null while people are in the room. */
  readonly ttlExpiresAt?: string | null;
  /** When the agent is ended, also with people in; null if its session has no longest length. */
  readonly sessionEndsAt?: string | null;
  /** Whether the agent has been warned of that end. */
  readonly endingSoon?: boolean;
  /** Whether the agent is in the room and answers. */
  readonly ready?: boolean;
}

/** The service's calls that a connection needs; `token` is the one from the room's credentials. */
export interface AgentDesk {
  /** Gives the room an agent that answers: the existing one, or a new one. */
  requestAgent(token: string): Promise<Granted>;
  /** The same, but resolves once the agent answers; rejects with `no-agent` if there will be none. */
  awaitAgent(token: string, signal: AbortSignal): Promise<Granted>;
  status(token: string): Promise<AgentStatus>;
  /** Ends the agent now, even with people in the room. */
  endAgent(token: string): Promise<void>;
  /** Ends the agent unless LiveKit reports people in the room at that moment. */
  giveBack(token: string): Promise<void>;
}

export interface AgentServiceOptions {
  readonly roomName: string;
  readonly agentName?: string;
  /** An IANA name that is passed to the agent. */
  readonly timezone?: string;
  /** The service's address; default: the page's own origin. */
  readonly baseUrl?: string;
  readonly timeoutMs?: number;
  readonly fetch?: typeof fetch;
}

/** Client of the service for the agent of one room. Throws every failure as a ProblemError. */
export class AgentService implements AgentDesk {
  readonly #options: AgentServiceOptions;

  constructor(options: AgentServiceOptions) {
    this.#options = options;
  }

  async requestAgent(token: string): Promise<Granted> {
    return (await this.#call("POST", "dispatch-agent", token, { body: this.#request() })) as Granted;
  }

  async awaitAgent(token: string, signal: AbortSignal): Promise<Granted> {
    const body = { ...this.#request(), wait: "ready" };
    const waits = { body, signal, keepalive: false, timeoutMs: WAIT_TIMEOUT_MS };
    return (await this.#call("POST", "dispatch-agent", token, waits)) as Granted;
  }

  async status(token: string): Promise<AgentStatus> {
    return (await this.#call("GET", `agent-status?${this.#query()}`, token)) as AgentStatus;
  }

  async endAgent(token: string): Promise<void> {
    await this.#call("DELETE", `dispatch-agent?${this.#query()}`, token);
  }

  async giveBack(token: string): Promise<void> {
    await this.#call("DELETE", `dispatch-agent?${this.#query()}&onlyIfEmpty=true`, token);
  }

  #request(): object {
    const { roomName, agentName, timezone } = this.#options;
    return { roomName, ...(agentName && { agentName }), ...(timezone && { timezone }) };
  }

  #query(): string {
    const { roomName, agentName } = this.#options;
    return new URLSearchParams({ roomName, ...(agentName && { agentName }) }).toString();
  }

  #call(method: string, path: string, token: string, call?: Partial<Call>): Promise<unknown> {
    const headers = { Authorization: `Bearer ${token}` };
    const { timeoutMs, fetch } = this.#options;
    const url = `${this.#options.baseUrl ?? ""}/api/livekit/${path}`;
    return callJson(url, { method, headers, timeoutMs, fetch, ...call });
  }
}

export interface TokenEndpointOptions {
  readonly url: string;
  readonly roomName: string;
  readonly identity: string;
  readonly displayName?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly fetch?: typeof fetch;
}

/**
 * Fetches credentials from LiveKit's standard token endpoint. The token requests no agent: that is the task
 * of `AgentService.requestAgent`, whose answer tells whether there is one.
 */
export function tokenEndpoint(options: TokenEndpointOptions): (signal: AbortSignal) => Promise<Credentials> {
  return async (signal) => {
    const body = {
      room_name: options.roomName,
      participant_identity: options.identity,
      ...(options.displayName && { participant_name: options.displayName }),
    };
    const { headers, fetch } = options;
    const answer = (await callJson(options.url, { method: "POST", headers, body, signal, fetch })) as {
      server_url: string;
      participant_token: string;
    };
    return { serverUrl: answer.server_url, participantToken: answer.participant_token };
  };
}

interface Call {
  readonly method: string;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: unknown;
  readonly signal?: AbortSignal;
  /** Whether the request must arrive even when the page closes; default: true. */
  readonly keepalive?: boolean;
  readonly timeoutMs?: number | undefined;
  readonly fetch?: typeof fetch | undefined;
}

/** The service itself answers within 10 s, whatever LiveKit does. */
const TIMEOUT_MS = 12_000;

/** A call that waits for the agent is answered within 45 s after that. */
const WAIT_TIMEOUT_MS = 60_000;

async function callJson(url: string, call: Call): Promise<unknown> {
  const bound = AbortSignal.timeout(call.timeoutMs ?? TIMEOUT_MS);
  const request: RequestInit = {
    method: call.method,
    headers: { ...(call.body !== undefined && { "Content-Type": "application/json" }), ...call.headers },
    signal: call.signal ? AbortSignal.any([call.signal, bound]) : bound,
    keepalive: call.keepalive ?? true,
    ...(call.body !== undefined && { body: JSON.stringify(call.body) }),
  };
  let response: Response;
  let answer: unknown;
  try {
    response = await (call.fetch ?? fetch)(url, request);
    answer = await response.json().catch((error: unknown) => {
      if (bound.aborted || call.signal?.aborted) throw error;
      return null;
    });
  } catch (error) {
    throw new ProblemError({ code: "service-unreachable", retryable: true, detail: String(error) });
  }
  if (!response.ok) throw new ProblemError(problemIn(response, answer));
  if (answer === null || typeof answer !== "object") {
    throw new ProblemError({
      code: "misconfigured",
      retryable: false,
      detail: `${url} did not answer with a JSON object`,
    });
  }
  return answer;
}

/** The service's codes for a call that waited for an agent in vain. */
const NO_AGENT = ["no_worker", "join_timeout", "crash_loop", "agent_ended", "on_hold"];

interface ErrorBody {
  readonly code?: string;
  readonly message?: string;
  readonly retryable?: boolean;
}

/** The problem behind an error response; the service's `code` is more precise than the status. */
export function problemIn(response: Response, answer: unknown): Problem {
  const body = (typeof answer === "object" && answer !== null ? answer : {}) as ErrorBody;
  const { status } = response;
  const problem = {
    detail: `${status} ${body.code ?? ""} ${body.message ?? ""}`.trim(),
    ...retryAfter(response.headers.get("Retry-After")),
  };
  if (status === 401 || status === 403) return { code: "not-allowed", retryable: false, ...problem };
  if (body.code === "at_capacity") return { code: "at-capacity", retryable: true, ...problem };
  if (status === 429 || body.code === "busy") return { code: "service-busy", retryable: true, ...problem };
  if (body.code && NO_AGENT.includes(body.code)) {
    return { code: "no-agent", retryable: body.retryable ?? true, ...problem };
  }
  if (body.code === "livekit_unavailable" || body.code === "livekit_timeout") {
    return { code: "livekit-unreachable", retryable: body.retryable ?? true, ...problem };
  }
  if (body.code === "livekit_refused") return { code: "misconfigured", retryable: false, ...problem };
  // A proxy in front of the service answers 502, 503 and 504 without the service's body.
  if (status >= 500 || status === 408)
    return { code: "service-unreachable", retryable: body.retryable ?? true, ...problem };
  return { code: "misconfigured", retryable: false, ...problem };
}

/** `Retry-After` in seconds or as a date; empty if it is absent or unreadable. */
function retryAfter(header: string | null): { retryAfterMs?: number } {
  if (!header) return {};
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? { retryAfterMs: Math.max(ms, 0) } : {};
}
