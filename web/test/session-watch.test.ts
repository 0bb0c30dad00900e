import { describe, expect, it } from "vitest";
import { ProblemError } from "../src/problems";
import { settle, setUp } from "./fakes";

const agentHere = { type: "agent", ready: true, state: "listening" } as const;
const agentAway = { type: "agent", ready: false, state: null } as const;
const present = { hasAgent: true, state: "active", participantCount: 1 };

/** A connection whose agent is here, and whose session ends after `endsInMs`. */
async function inSession(endsInMs: number) {
  const all = setUp();
  const endsAt = all.world.now() + endsInMs;
  all.connection.connect();
  await settle();
  all.link().tell(agentHere);
  all.desk.statusAnswer = {
    ...present,
    sessionEndsAt: new Date(endsAt).toISOString(),
    endingSoon: false,
  };
  const asked = () => all.desk.calls.filter((call) => call === "status").length;
  return { ...all, endsAt, asked };
}

describe("the end of a session", () => {
  it("is known, and so is that it is soon", async () => {
    const { connection, desk, world, endsAt } = await inSession(600_000);
    expect(connection.getSnapshot()).toMatchObject({ sessionEndsAt: null, endingSoon: false });
    await world.advance(3_000);
    expect(connection.getSnapshot()).toMatchObject({ sessionEndsAt: endsAt, endingSoon: false });
    await world.advance(endsAt - 30_000 - world.now());
    desk.statusAnswer = { ...desk.statusAnswer, endingSoon: true };
    await world.advance(3_500);
    expect(connection.getSnapshot()).toMatchObject({ phase: "ready", endingSoon: true });
  });

  it("is asked for the more often the closer it is, and no longer when the agent is gone", async () => {
    const { link, world, asked } = await inSession(3_600_000);
    await world.advance(3_000_000);
    expect(asked()).toBeLessThan(30);
    await world.advance(600_000);
    expect(asked()).toBeLessThan(80);
    link().tell(agentAway);
    link().tell(agentHere);
    link().tell({ type: "left" });
    const before = asked();
    await world.advance(600_000);
    expect(asked()).toBe(before);
  });

  it("is not asked for again where there is none, but until the service knows the agent", async () => {
    const { desk, world, asked } = await inSession(0);
    desk.statusAnswer = { hasAgent: true, state: "starting", sessionEndsAt: null, endingSoon: false };
    await world.advance(6_000);
    expect(asked()).toBe(2);
    desk.statusAnswer = { ...present, sessionEndsAt: null, endingSoon: false };
    await world.advance(60_000);
    expect(asked()).toBe(3);
  });

  it.each([
    ["is asked for again", true, 2],
    ["is not asked for again", false, 1],
  ])("%s after a failure that is retryable: %s", async (_, retryable, times) => {
    const { desk, world } = await inSession(600_000);
    let asked = 0;
    desk.status = () => {
      asked++;
      throw new ProblemError({ code: "service-unreachable", retryable });
    };
    await world.advance(33_000);
    expect(asked).toBe(times);
  });

  it.each([
    ["warned", true, 3_000],
    ["not warned", false, 30_000],
  ])(
    "is why an agent that was %s is gone, until the person requests another one",
    async (_, soon, afterMs) => {
      const { connection, desk, link, world } = await inSession(30_000);
      desk.statusAnswer = { ...desk.statusAnswer, endingSoon: soon };
      await world.advance(afterMs);
      link().tell(agentAway);
      desk.statusAnswer = { hasAgent: false, state: "none" };
      await world.advance(10_000);
      expect(connection.getSnapshot()).toMatchObject({
        phase: "waiting-for-agent",
        problem: { code: "session-over" },
      });
      expect(desk.calls.filter((call) => call === "request")).toHaveLength(1);

      desk.answers.push({ dispatchId: "AD_2", reused: false });
      connection.connect();
      await settle();
      expect(connection.getSnapshot()).toMatchObject({
        problem: null,
        dispatchId: "AD_2",
        sessionEndsAt: null,
        endingSoon: false,
      });
    },
  );

  it("is not why an agent is gone that has crashed", async () => {
    const { connection, desk, link, world } = await inSession(600_000);
    await world.advance(3_000);
    link().tell(agentAway);
    desk.statusAnswer = { hasAgent: false, state: "none" };
    await world.advance(10_000);
    expect(connection.getSnapshot().problem).toMatchObject({ code: "no-agent" });
  });
});
