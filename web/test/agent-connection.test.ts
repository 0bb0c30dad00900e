import { describe, expect, it } from "vitest";
import type { Granted } from "../src/agent-service";
import { FakeLink, settle, setUp } from "./fakes";

const livekitDown = { code: "livekit-unreachable", retryable: true } as const;
const refused = { code: "not-allowed", retryable: false } as const;
const agentHere = { type: "agent", ready: true, state: "listening" } as const;

describe("going in", () => {
  it("asks for the agent before it joins, and is ready when the agent is", async () => {
    const { connection, desk, link, phases, world } = setUp();
    connection.connect();
    await settle();
    expect(desk.calls).toEqual(["request"]);
    expect(link().calls).toEqual(["join token"]);
    link().tell(agentHere);
    desk.statusAnswer = { hasAgent: true, state: "active", participantCount: 1, sessionEndsAt: null };
    await world.advance(60_000);
    expect(phases).toEqual(["requesting", "connecting", "waiting-for-agent", "ready"]);
    expect(connection.getSnapshot()).toMatchObject({
      dispatchId: "AD_1",
      reused: false,
      agentState: "listening",
    });
    expect(desk.calls).toEqual(["request", "status"]);
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

  it("tries at once when the person does not want to wait", async () => {
    const { connection, desk, link } = setUp();
    desk.answers.push({ ...livekitDown, retryAfterMs: 20_000 });
    connection.connect();
    await settle();
    expect(connection.getSnapshot().retryAt).not.toBeNull();
    connection.connect();
    await settle();
    expect(link().calls).toEqual(["join token"]);
    expect(desk.calls).toEqual(["request", "request"]);
  });

  it("fails when the tries are used up, gives the agent back, and begins anew on connect", async () => {
    const { connection, desk, world, phases } = setUp();
    FakeLink.problems.push(...Array<typeof livekitDown>(8).fill(livekitDown));
    connection.connect();
    await world.advance(120_000);
    expect(connection.getSnapshot()).toMatchObject({ phase: "failed", problem: livekitDown });
    expect(desk.calls.at(-1)).toBe("give back");
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
    expect(desk.calls).toEqual(["request", "give back"]);
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
    expect(desk.calls).toEqual(["request", "give back"]);
    expect(connection.getSnapshot()).toMatchObject({ phase: "idle", problem: null });
  });

  it("takes nobody's agent that was there before", async () => {
    const { connection, desk } = setUp();
    FakeLink.hanging = true;
    desk.answers.push({ dispatchId: "AD_1", reused: true });
    connection.connect();
    await settle();
    await connection.disconnect();
    expect(desk.calls).toEqual(["request"]);
  });

  it("lets a new connect begin only when the old one is undone", async () => {
    const { connection, desk } = setUp();
    FakeLink.hanging = true;
    connection.connect();
    await settle();
    void connection.disconnect();
    connection.connect();
    await settle();
    expect(desk.calls).toEqual(["request", "give back", "request"]);
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
