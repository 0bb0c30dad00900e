import { vi } from "vitest";
import { AgentConnection, type AgentConnectionOptions } from "../src/agent-connection";
import type { AgentDesk, AgentStatus, Credentials, Granted } from "../src/agent-service";
import { ProblemError, type Problem } from "../src/problems";
import type { RoomLink, RoomNews, Utterance } from "../src/room-link";
import type { Phase } from "../src/state";
import type { Surroundings } from "../src/surroundings";

/** A manual clock. */
export class FakeWorld implements Surroundings {
  #now = 1_000_000;
  readonly slept: number[] = [];
  #sleepers: { due: number; wake: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  random(): number {
    return 1;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    this.slept.push(ms);
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const wake = () => {
        signal.removeEventListener("abort", wake);
        resolve();
      };
      this.#sleepers.push({ due: this.#now + ms, wake });
      signal.addEventListener("abort", wake);
    });
  }

  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      await settle();
      const due = this.#sleepers.filter((one) => one.due <= until).sort((a, b) => a.due - b.due)[0];
      if (!due) break;
      this.#sleepers = this.#sleepers.filter((one) => one !== due);
      this.#now = Math.max(this.#now, due.due);
      due.wake();
    }
    this.#now = until;
    await settle();
  }
}

export class FakeDesk implements AgentDesk {
  readonly calls: string[] = [];
  /** The next answers, one per call; after them always `reused: false`. */
  readonly answers: (Granted | Problem | Promise<Granted>)[] = [];
  statusAnswer: AgentStatus = { hasAgent: true, state: "starting", participantCount: 0 };
  /** What a call that waits is answered; null: it goes on until it is given up. */
  awaited: Granted | Problem | null = null;

  async requestAgent(): Promise<Granted> {
    this.calls.push("request");
    const answer = await (this.answers.shift() ?? { dispatchId: "AD_1", reused: false });
    if ("code" in answer) throw new ProblemError(answer);
    return answer;
  }

  async awaitAgent(_token: string, signal: AbortSignal): Promise<Granted> {
    this.calls.push("await");
    const { awaited } = this;
    if (awaited === null) {
      return new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => {
          this.calls.push("hang up");
          reject(signal.reason as Error);
        });
      });
    }
    if ("code" in awaited) throw new ProblemError(awaited);
    return awaited;
  }

  async status(): Promise<AgentStatus> {
    this.calls.push("status");
    return this.statusAnswer;
  }

  async endAgent(): Promise<void> {
    this.calls.push("end");
  }

  async giveBack(): Promise<void> {
    this.calls.push("give back");
  }
}

export class FakeLink implements RoomLink {
  readonly calls: string[] = [];
  /** A join that stays in progress until `leave`. */
  static hanging = false;
  static readonly problems: Problem[] = [];
  microphoneProblem: Problem | null = null;
  #interruptJoin: (() => void) | null = null;

  readonly tell: (news: RoomNews) => void;

  constructor(tell: (news: RoomNews) => void) {
    this.tell = tell;
  }

  async join(credentials: Credentials): Promise<void> {
    this.calls.push(`join ${credentials.participantToken}`);
    const problem = FakeLink.problems.shift();
    if (problem) throw new ProblemError(problem);
    if (FakeLink.hanging) {
      await new Promise<void>((resolve) => (this.#interruptJoin = resolve));
      throw new ProblemError({ code: "livekit-unreachable", retryable: true, detail: "left" });
    }
    this.tell({ type: "joined" });
  }

  async leave(): Promise<void> {
    this.calls.push("leave");
    this.#interruptJoin?.();
  }

  async setMicrophone(on: boolean): Promise<void> {
    this.calls.push(`microphone ${on}`);
    if (this.microphoneProblem) throw new ProblemError(this.microphoneProblem);
  }

  async sendText(text: string): Promise<Utterance> {
    return { id: "u1", from: "me", identity: "me", text, final: true };
  }

  async startAudio(): Promise<void> {
    this.calls.push("start audio");
  }
}

export function setUp(options: Partial<AgentConnectionOptions> = {}) {
  FakeLink.hanging = false;
  FakeLink.problems.length = 0;
  const world = new FakeWorld();
  const desk = new FakeDesk();
  const links: FakeLink[] = [];
  const fetchCredentials = vi.fn(async () => ({ serverUrl: "ws://livekit", participantToken: "token" }));
  const connection = new AgentConnection({
    desk,
    fetchCredentials,
    createLink: (onNews) => {
      const link = new FakeLink(onNews);
      links.push(link);
      return link;
    },
    surroundings: world,
    ...options,
  });
  const phases: Phase[] = [];
  connection.subscribe(() => {
    const { phase } = connection.getSnapshot();
    if (phases.at(-1) !== phase) phases.push(phase);
  });
  const link = () => links.at(-1) as FakeLink;
  return { connection, world, desk, links, link, phases, fetchCredentials };
}

/** Run everything that does not wait for the clock. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await Promise.resolve();
}
