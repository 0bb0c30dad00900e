import { describe, expect, it, vi } from "vitest";
import type { Granted } from "../src/agent-service";
import { FakeLink, settle, setUp } from "./fakes";

const livekitDown = { code: "livekit-unreachable", retryable: true } as const;
const refused = { code: "not-allowed", retryable: false } as const;
const agentHere = { type: "agent", ready: true, state: "listening" } as const;
const agentAway = { type: "agent", ready: false, state: null } as const;

describe("going in", () => {
  it("asks for the agent before it joins, and is ready when the agent is", async () => {
    const { connection, desk, link, phases, world } = setUp();
    connection.connect();
    await settle();
    expect(desk.calls).toEqual(["request"]);
    expect(link().calls).toEqual(["join token"]);
    link().tell(agentHere);
    await world.advance(60_000);
    expect(phases).toEqual(["requesting", "connecting", "waiting-for-agent", "ready"]);
    expect(connection.getSnapshot()).toMatchObject({
      dispatchId: "AD_1",
      reused: false,
      agentState: "listening",
    });
    expect(desk.calls).toEqual(["request"]);
  });

  it("does nothing on a second connect", async () => {
    const { connection, desk, links } = setUp();
    connection.connect();
    connection.connect();
    await settle();
    expect(desk.calls).toEqual(["request"]);
    expect(links).toHaveLength(1);
  });

  it("turns the microphone on when asked to", async () => {
    const { connection, link } = setUp({ microphone: true });
    connection.connect();
    await settle();
    expect(link().calls).toEqual(["join token", "microphone true"]);
    expect(connection.getSnapshot().microphone).toBe("on");
  });

  it("stays in by text when the microphone is refused", async () => {
    const { connection, link } = setUp();
    connection.connect();
    await settle();
    link().tell(agentHere);
    link().microphoneProblem = { code: "microphone-refused", retryable: false };
    await connection.setMicrophone(true);
    expect(connection.getSnapshot()).toMatchObject({ phase: "ready", microphone: "refused", problem: null });
  });
});

describe("trying again", () => {
  it("backs off, waits as long as Retry-After says, and goes on showing why", async () => {
    const { connection, desk, world, link } = setUp();
    desk.answers.push(livekitDown, { ...livekitDown, retryAfterMs: 5_000 }, livekitDown);
    connection.connect();
    await settle();
    expect(connection.getSnapshot()).toMatchObject({
      phase: "requesting",
      problem: livekitDown,
      retryAt: world.now() + 500,
    });
    await world.advance(500 + 5_000 + 2_000);
    expect(world.slept.slice(0, 3)).toEqual([500, 5_000, 2_000]);
    expect(connection.getSnapshot()).toMatchObject({ phase: "waiting-for-agent", problem: null });
    expect(link().calls).toEqual(["join token"]);
  });

  it("does not try again what will not change", async () => {
    const { connection, desk, world } = setUp();
    desk.answers.push(refused);
    connection.connect();
    await world.advance(60_000);
    expect(connection.getSnapshot()).toMatchObject({ phase: "failed", problem: refused });
    expect(desk.calls).toEqual(["request"]);
  });

  it("fails when the tries are used up, gives the agent back, and begins anew on connect", async () => {
    const { connection, desk, world, phases } = setUp();
    FakeLink.problems.push(...Array<typeof livekitDown>(8).fill(livekitDown));
    connection.connect();
    await world.advance(120_000);
    expect(connection.getSnapshot()).toMatchObject({ phase: "failed", problem: livekitDown });
    expect(desk.calls.slice(-2)).toEqual(["status", "end"]);
    connection.connect();
    await settle();
    expect(phases.at(-1)).toBe("waiting-for-agent");
  });

  it("takes new credentials for each try", async () => {
    const { connection, desk, world, fetchCredentials } = setUp();
    desk.answers.push(livekitDown);
    connection.connect();
    await world.advance(500);
    expect(fetchCredentials).toHaveBeenCalledTimes(2);
  });
});

describe("leaving half-way", () => {
  it("while credentials are fetched: nothing was asked for, nothing is given back", async () => {
    const { connection, desk, links } = setUp();
    connection.connect();
    const left = connection.disconnect();
    expect(connection.getSnapshot().phase).toBe("idle");
    await left;
    expect(desk.calls).toEqual([]);
    expect(links).toEqual([]);
  });

  it("while the agent is asked for: it is given back once it is there", async () => {
    const { connection, desk, links } = setUp();
    let answer = (_granted: Granted) => {};
    desk.answers.push(new Promise<Granted>((resolve) => (answer = resolve)));
    connection.connect();
    await settle();
    const left = connection.disconnect();
    expect(connection.getSnapshot().phase).toBe("idle");
    answer({ dispatchId: "AD_1", reused: false });
    await left;
    expect(desk.calls).toEqual(["request", "status", "end"]);
    expect(links).toEqual([]);
  });

  it("while joining: the join is ended, the agent is given back", async () => {
    const { connection, desk, link } = setUp();
    FakeLink.hanging = true;
    connection.connect();
    await settle();
    expect(connection.getSnapshot().phase).toBe("connecting");
    await connection.disconnect();
    expect(link().calls).toEqual(["join token", "leave"]);
    expect(desk.calls).toEqual(["request", "status", "end"]);
    expect(connection.getSnapshot()).toMatchObject({ phase: "idle", problem: null });
  });

  it("takes no agent from somebody else, and none that was there before", async () => {
    const { connection, desk } = setUp();
    FakeLink.hanging = true;
    desk.statusAnswer = { hasAgent: true, state: "active", participantCount: 1 };
    connection.connect();
    await settle();
    await connection.disconnect();
    expect(desk.calls).toEqual(["request", "status"]);

    desk.answers.push({ dispatchId: "AD_1", reused: true });
    connection.connect();
    await settle();
    await connection.disconnect();
    expect(desk.calls).toEqual(["request", "status", "request"]);
  });

  it("lets a new connect begin only when the old one is undone", async () => {
    const { connection, desk } = setUp();
    FakeLink.hanging = true;
    connection.connect();
    await settle();
    void connection.disconnect();
    connection.connect();
    await settle();
    expect(desk.calls).toEqual(["request", "status", "end", "request"]);
  });

  it("while waiting for the next try: no other try follows", async () => {
    const { connection, desk, world } = setUp();
    desk.answers.push(livekitDown);
    connection.connect();
    await settle();
    await connection.disconnect();
    await world.advance(60_000);
    expect(desk.calls).toEqual(["request"]);
  });
});

describe("in the room", () => {
  it("leaves, and leaves the agent to its TTL", async () => {
    const { connection, desk, link } = setUp();
    connection.connect();
    await settle();
    link().tell(agentHere);
    await connection.disconnect();
    expect(connection.getSnapshot().phase).toBe("ended");
    expect(link().calls).toEqual(["join token", "leave"]);
    expect(desk.calls).toEqual(["request"]);
  });

  it("ends the agent first and leaves then", async () => {
    const { connection, desk, link } = setUp();
    connection.connect();
    await settle();
    link().tell(agentHere);
    await connection.endAgent();
    expect(desk.calls).toEqual(["request", "end"]);
    expect(link().calls).toEqual(["join token", "leave"]);
    expect(connection.getSnapshot().phase).toBe("ended");
  });

  it("waits for another agent when its own is gone, says so when none comes, and asks again", async () => {
    const { connection, desk, link, world, phases } = setUp();
    connection.connect();
    await settle();
    link().tell(agentHere);
    link().tell(agentAway);
    expect(connection.getSnapshot()).toMatchObject({ phase: "waiting-for-agent", problem: null });
    desk.statusAnswer = { hasAgent: false, state: "unavailable" };
    await world.advance(3_000);
    expect(connection.getSnapshot()).toMatchObject({
      phase: "waiting-for-agent",
      problem: { code: "no-agent" },
    });
    connection.connect();
    await settle();
    expect(desk.calls.filter((call) => call === "request")).toHaveLength(2);
    expect(connection.getSnapshot().problem).toBeNull();
    link().tell(agentHere);
    expect(phases.at(-1)).toBe("ready");
    expect(link().calls).toEqual(["join token"]);
  });

  it("loses patience though the service is full of hope", async () => {
    const { connection, world } = setUp();
    connection.connect();
    await world.advance(18_000);
    expect(connection.getSnapshot().problem).toBeNull();
    await world.advance(6_000);
    expect(connection.getSnapshot().problem).toMatchObject({ code: "no-agent" });
  });

  it("comes back with LiveKit's own reconnect", async () => {
    const { connection, link, links, phases } = setUp();
    connection.connect();
    await settle();
    link().tell(agentHere);
    link().tell({ type: "interrupted" });
    expect(connection.getSnapshot().phase).toBe("reconnecting");
    link().tell({ type: "joined" });
    link().tell(agentHere);
    expect(phases.at(-1)).toBe("ready");
    expect(links).toHaveLength(1);
  });

  it("asks and joins again when LiveKit has given up", async () => {
    const { connection, desk, link, links, world, phases } = setUp();
    connection.connect();
    await settle();
    link().tell(agentHere);
    desk.answers.push(livekitDown, { dispatchId: "AD_1", reused: true });
    link().tell({ type: "closed", problem: livekitDown });
    expect(connection.getSnapshot()).toMatchObject({ phase: "reconnecting", problem: null });
    await world.advance(500);
    expect(connection.getSnapshot()).toMatchObject({ phase: "reconnecting", problem: livekitDown });
    await world.advance(500);
    link().tell(agentHere);
    expect(links).toHaveLength(2);
    expect(connection.getSnapshot()).toMatchObject({ phase: "ready", reused: true });
    expect(phases).not.toContain("failed");
  });

  it("stays out when another tab took over", async () => {
    const { connection, link, world, links } = setUp();
    connection.connect();
    await settle();
    link().tell({ type: "closed", problem: { code: "taken-over", retryable: false } });
    await world.advance(60_000);
    expect(connection.getSnapshot()).toMatchObject({ phase: "ended", problem: { code: "taken-over" } });
    expect(links).toHaveLength(1);
  });

  it("hears no news from a room it has left", async () => {
    const { connection, link } = setUp();
    connection.connect();
    await settle();
    const old = link();
    await connection.disconnect();
    const heard = vi.fn();
    connection.subscribe(heard);
    old.tell(agentHere);
    old.tell({ type: "closed", problem: livekitDown });
    expect(heard).not.toHaveBeenCalled();
  });

  it("passes on what is said, its own words too", async () => {
    const { connection, link } = setUp();
    const said: string[] = [];
    connection.onUtterance((utterance) => said.push(`${utterance.from}: ${utterance.text}`));
    connection.connect();
    await settle();
    await connection.sendText("hello");
    link().tell({
      type: "utterance",
      utterance: { id: "u2", from: "agent", identity: "agent-1", text: "turn 1: hello", final: true },
    });
    expect(said).toEqual(["me: hello", "agent: turn 1: hello"]);
  });
});
