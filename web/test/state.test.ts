import { describe, expect, it } from "vitest";
import readme from "../README.md?raw";
import { english } from "../src/messages";
import type { Problem } from "../src/problems";
import { initialState, isAtRest, reduce, TABLE, type ConnectionEvent, type Phase } from "../src/state";

const problem: Problem = { code: "service-unreachable", retryable: true };
const events: ConnectionEvent[] = [
  { type: "connect" },
  { type: "granted", dispatchId: "AD_1", reused: true },
  { type: "joined" },
  { type: "agent-ready" },
  { type: "agent-gone" },
  { type: "held" },
  { type: "released" },
  { type: "no-agent", problem },
  { type: "interrupted" },
  { type: "retrying", problem, retryAt: 5 },
  { type: "dismissed", problem },
  { type: "failed", problem },
  { type: "leave" },
];
const phases = Object.keys(TABLE) as Phase[];
const product = phases.flatMap((phase) => events.map((event) => ({ phase, event, type: event.type })));

describe("the reducer", () => {
  it.each(product)("goes from $phase on $type where the table says, or nowhere", ({ phase, event }) => {
    const before = { ...initialState, phase };
    const after = reduce(before, event);
    const expected = event.type === "noticed" ? phase : TABLE[phase][event.type];
    if (expected === undefined) expect(after).toBe(before);
    else expect(after.phase).toBe(expected);
  });

  it("shows a problem from the event that brought it until something works", () => {
    let state = reduce(reduce(initialState, { type: "connect" }), { type: "retrying", problem, retryAt: 5 });
    expect(state).toMatchObject({ phase: "requesting", problem, retryAt: 5 });
    state = reduce(state, { type: "granted", dispatchId: "AD_1", reused: true });
    expect(state).toMatchObject({ problem, retryAt: null, dispatchId: "AD_1", reused: true });
    expect(reduce(state, { type: "joined" }).problem).toBeNull();
  });

  it("forgets at rest what holds only in a room", () => {
    const ready = { ...initialState, phase: "ready", microphone: "on", agentState: "speaking" } as const;
    expect(reduce(ready, { type: "leave" })).toMatchObject({ microphone: "off", agentState: null });
  });

  it("can reach a rest from every phase that is none", () => {
    for (const phase of phases.filter((one) => !isAtRest(one))) {
      expect(isAtRest(TABLE[phase].leave ?? phase), phase).toBe(true);
    }
  });

  it("can get from every rest back in", () => {
    for (const phase of phases.filter(isAtRest)) expect(TABLE[phase].connect).toBe("requesting");
  });
});

it("has a sentence for every phase, and a next step for every problem", () => {
  expect(Object.keys(english.phases).sort()).toEqual([...phases].sort());
  for (const message of Object.values(english.problems)) {
    expect(message.sentence).toMatch(/\.$/);
    expect(message.nextStep).toMatch(/\.$/);
  }
});

it("is the table that the README prints", () => {
  const rows = phases.flatMap((phase) =>
    Object.entries(TABLE[phase]).map(([type, next]) => [phase, type, next].join(" ")),
  );
  const printed = readme.split("<!-- table -->")[1]?.split("<!-- /table -->")[0] ?? "";
  const cells = printed.split("\n").map((line) => line.split("|").map((cell) => cell.trim()));
  const lines = cells.map((row) => row.slice(1, -1).join(" ")).filter((row) => row !== "");
  expect(lines.slice(2)).toEqual(rows);
});
