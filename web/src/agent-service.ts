import { ProblemError, type Problem } from "./problems.js";

/** With what one enters the room, and shows the service that one may. */
export interface Credentials {
  readonly serverUrl: string;
  readonly participantToken: string;
}

export interface Granted {
  readonly dispatchId: string | null;
  readonly reused: boolean;
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
}

/** What a connection asks the service for; the token is that of the room's credentials. */
export interface AgentDesk {
  /** Gives the room an agent that answers: the one that is there, or a new one. */
  requestAgent(token: string): Promise<Granted>;
  status(token: string): Promise<AgentStatus>;
  /** Ends the agent now, whoever is in the room. */
  endAgent(token: string): Promise<void>;
  /** Ends the agent unless people are in with it, as LiveKit says at that moment. */
  giveBack(token: string): Promise<void>;
}

export interface AgentServiceOptions {
  readonly roomName: string;
  readonly agentName?: string;
  /** An IANA name that the agent is told. */
  readonly timezone?: string;
  /** Where the service is; the page's own origin unless told otherwise. */
  readonly baseUrl?: string;
  readonly timeoutMs?: number;
  readonly fetch?: typeof fetch;
}

/** Asks the service about the agent of one room. Every failure is thrown as a ProblemError. */
export class AgentService implements AgentDesk {
  readonly #options: AgentServiceOptions;

  constructor(options: AgentServiceOptions) {
    this.#options = options;
  }

  async requestAgent(token: string): Promise<Granted> {
    const { roomName, agentName, timezone } = this.#options;
    const body = { roomName, ...(agentName && { agentName }), ...(timezone && { timezone }) };
    return (await this.#call("POST", "dispatch-agent", token, body)) as Granted;
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

  #query(): string {
    const { roomName, agentName } = this.#options;
    return new URLSearchParams({ roomName, ...(agentName && { agentName }) }).toString();
  }

  #call(method: string, path: string, token: string, body?: unknown): Promise<unknown> {
    const headers = { Authorization: `Bearer ${token}` };
    return callJson(`${this.#options.baseUrl ?? ""}/api/livekit/${path}`, {
      method,
      headers,
      body,
      timeoutMs: this.#options.timeoutMs,
      fetch: this.#options.fetch,
    });
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
 * Fetches credentials from LiveKit's standard token endpoint. No agent is asked for in the token: that is
 * `AgentService.requestAgent`, whose answer says whether one is there.
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
  readonly timeoutMs?: number | undefined;
  readonly fetch?: typeof fetch | undefined;
}

/** The service itself answers within 10 s, whatever LiveKit does. */
const TIMEOUT_MS = 12_000;

async function callJson(url: string, call: Call): Promise<unknown> {
  const bound = AbortSignal.timeout(call.timeoutMs ?? TIMEOUT_MS);
  const request: RequestInit = {
    method: call.method,
    headers: { ...(call.body !== undefined && { "Content-Type": "application/json" }), ...call.headers },
    signal: call.signal ? AbortSignal.any([call.signal, bound]) : bound,
    // A request under way is to arrive even when the page goes.
    keepalive: true,
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
      detail: `${url} answered no JSON object`,
    });
  }
  return answer;
}

interface ErrorBody {
  readonly code?: string;
  readonly message?: string;
  readonly retryable?: boolean;
}

/** What an answer other than success means; the service's `code` says more than the status. */
export function problemIn(response: Response, answer: unknown): Problem {
  const body = (typeof answer === "object" && answer !== null ? answer : {}) as ErrorBody;
  const { status } = response;
  const problem = {
    detail: `${status} ${body.code ?? ""} ${body.message ?? ""}`.trim(),
    ...retryAfter(response.headers.get("Retry-After")),
  };
  if (status === 401 || status === 403) return { code: "not-allowed", retryable: false, ...problem };
  if (status === 429 || body.code === "busy") return { code: "service-busy", retryable: true, ...problem };
  if (body.code === "livekit_unavailable" || body.code === "livekit_timeout") {
    return { code: "livekit-unreachable", retryable: body.retryable ?? true, ...problem };
  }
  if (body.code === "livekit_refused") return { code: "misconfigured", retryable: false, ...problem };
  // A proxy in front of the service answers 502, 503 and 504 without our body.
  if (status >= 500 || status === 408)
    return { code: "service-unreachable", retryable: body.retryable ?? true, ...problem };
  return { code: "misconfigured", retryable: false, ...problem };
}

/** `Retry-After` as seconds or as a date; nothing where it is absent or unreadable. */
function retryAfter(header: string | null): { retryAfterMs?: number } {
  if (!header) return {};
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? { retryAfterMs: Math.max(ms, 0) } : {};
}
