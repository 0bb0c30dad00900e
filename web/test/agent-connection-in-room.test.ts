import { describe, expect, it, vi } from "vitest";
import { FakeLink, settle, setUp } from "./fakes";

const livekitDown = { code: "livekit-unreachable", retryable: true } as const;
const agentHere = { type: "agent", ready: true, state: "listening" } as const;
const agentAway = { type: "agent", ready: false, state: null } as const;

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

  it("waits for a slow agent with one call, and hangs up when the agent is here", async () => {
    const { connection, desk, link, world } = setUp();
    connection.connect();
    await world.advance(15_000);
    expect(desk.calls).toEqual(["request", "await"]);
    link().tell(agentHere);
    await settle();
    expect(desk.calls).toEqual(["request", "await", "hang up"]);
    expect(connection.getSnapshot()).toMatchObject({ phase: "ready", problem: null, reused: false });
  });

  it("says why no agent comes as soon as the service knows", async () => {
    const { connection, desk, world } = setUp();
    connection.connect();
    desk.awaited = { code: "no-agent", retryable: true, detail: "503 no_worker" };
    await world.advance(3_000);
    expect(connection.getSnapshot()).toMatchObject({
      phase: "waiting-for-agent",
      problem: { code: "no-agent", detail: "503 no_worker" },
    });
    await world.advance(3_000);
    expect(desk.calls).toEqual(["request", "await", "status"]);
  });

  it("does not take a failure of the call that waits for one of the agent", async () => {
    const { connection, desk, world } = setUp();
    connection.connect();
    desk.awaited = { code: "misconfigured", retryable: false };
    await world.advance(9_000);
    expect(desk.calls).toEqual(["request", "await", "status", "status"]);
    expect(connection.getSnapshot().problem).toBeNull();
  });

  it("gets another agent for one that was given back before it came", async () => {
    const { connection, desk, world } = setUp();
    connection.connect();
    desk.awaited = { dispatchId: "AD_2", reused: false, ready: true };
    await world.advance(3_000);
    expect(desk.calls).toEqual(["request", "await"]);
    expect(connection.getSnapshot()).toMatchObject({ dispatchId: "AD_2", problem: null });
  });

  it("asks again for an agent that was given back while it waited, and only once", async () => {
    const { connection, desk, world } = setUp();
    connection.connect();
    desk.awaited = { code: "service-unreachable", retryable: true };
    desk.statusAnswer = { hasAgent: false, state: "none" };
    await world.advance(6_000);
    expect(desk.calls).toEqual(["request", "await", "status", "request"]);
    expect(connection.getSnapshot().problem).toBeNull();
    await world.advance(3_000);
    expect(desk.calls).toEqual(["request", "await", "status", "request", "status"]);
    expect(connection.getSnapshot().problem).toMatchObject({ code: "no-agent" });
  });

  it("does not bring back an agent that somebody has ended", async () => {
    const { connection, desk, link, world } = setUp();
    connection.connect();
    await settle();
    link().tell(agentHere);
    link().tell(agentAway);
    desk.statusAnswer = { hasAgent: false, state: "none" };
    await world.advance(10_000);
    expect(desk.calls.filter((call) => call === "request")).toHaveLength(1);
    expect(connection.getSnapshot().problem).toMatchObject({ code: "no-agent" });
  });

  it("is on hold while a human has taken over, and ready when the agent is back", async () => {
    const { connection, desk, link, world, phases } = setUp();
    connection.connect();
    await settle();
    link().tell(agentHere);
    link().tell(agentAway);
    desk.statusAnswer = { hasAgent: false, state: "on_hold" };
    await world.advance(24_000);
    expect(connection.getSnapshot()).toMatchObject({ phase: "on-hold", problem: null });
    desk.statusAnswer = { hasAgent: true, state: "starting" };
    await world.advance(3_000);
    expect(connection.getSnapshot()).toMatchObject({ phase: "waiting-for-agent", problem: null });
    // The patience for the agent begins with its return.
    await world.advance(9_000);
    expect(connection.getSnapshot().problem).toBeNull();
    link().tell(agentHere);
    expect(phases.slice(-5)).toEqual(["ready", "waiting-for-agent", "on-hold", "waiting-for-agent", "ready"]);
    expect(desk.calls.filter((call) => call === "request")).toHaveLength(1);
  });

  it("joins a room on hold at once, also again, and gives nothing back there", async () => {
    const { connection, desk, link, world } = setUp();
    const held = { dispatchId: null, reused: false, state: "on_hold" };
    desk.answers.push(held, held);
    desk.statusAnswer = { hasAgent: false, state: "on_hold" };
    connection.connect();
    await settle();
    expect(connection.getSnapshot()).toMatchObject({ phase: "on-hold", dispatchId: null });
    link().tell({ type: "closed", problem: livekitDown });
    await world.advance(500);
    expect(connection.getSnapshot().phase).toBe("on-hold");
    link().tell({ type: "interrupted" });
    link().tell({ type: "joined" });
    expect(connection.getSnapshot().phase).toBe("on-hold");
    await connection.disconnect();
    expect(desk.calls).not.toContain("give back");
  });

  it("gives back no hold when the join fails", async () => {
    const { connection, desk } = setUp();
    FakeLink.hanging = true;
    desk.answers.push({ dispatchId: null, reused: false, state: "on_hold" });
    connection.connect();
    await settle();
    await connection.disconnect();
    expect(desk.calls).toEqual(["request"]);
  });

  it("has left when another part of the page has left the room", async () => {
    const { connection, link, links, world } = setUp();
    connection.connect();
    await settle();
    link().tell(agentHere);
    link().tell({ type: "left" });
    await world.advance(60_000);
    expect(connection.getSnapshot()).toMatchObject({ phase: "ended", problem: null });
    expect(links).toHaveLength(1);
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

  it.each([
    ["muted by LiveKit's own button, stays muted", { state: "off", wanted: false }, []],
    ["unmuted by it, is on again", { state: "on", wanted: true }, ["microphone true"]],
    ["gone with its room, is on again", { state: "off" }, ["microphone true"]],
  ] as const)("comes back with the microphone as it was left: %s", async (_, news, calls) => {
    const { connection, link, world } = setUp({ microphone: true });
    connection.connect();
    await settle();
    link().tell({ type: "microphone", ...news });
    link().tell({ type: "closed", problem: livekitDown });
    await world.advance(500);
    expect(link().calls).toEqual(["join token", ...calls]);
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
