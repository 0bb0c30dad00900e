// @vitest-environment happy-dom
import { act, cleanup, render, renderHook, waitFor } from "@testing-library/react";
import { StrictMode, useState } from "react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { english, type RoomLinkFactory } from "../../src";
import { useLivekit, type Livekit, type UseLivekitOptions } from "../../src/react";
import { FakeLink } from "../fakes";
import { fakeService, json } from "./fake-service";

const agentHere = { type: "agent", ready: true, state: "listening" } as const;
const quick = { tries: 2, firstMs: 1, longestMs: 1, longestRetryAfterMs: 1_000 };

let service: ReturnType<typeof fakeService>;
let links: FakeLink[];

beforeEach(() => {
  sessionStorage.clear();
  FakeLink.hanging = false;
  service = fakeService();
  links = [];
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

const createLink: RoomLinkFactory = (onNews) => {
  const link = new FakeLink(onNews);
  links.push(link);
  return link;
};

function use(options: UseLivekitOptions = {}, wrapper?: typeof StrictMode) {
  const given = { createLink, microphone: false, ...options };
  const hook = renderHook((changed: UseLivekitOptions) => useLivekit({ ...given, ...changed }), {
    initialProps: {},
    ...(wrapper && { wrapper }),
  });
  const now = (): Livekit => hook.result.current;
  return { ...hook, now };
}

async function inRoom(now: () => Livekit): Promise<FakeLink> {
  await waitFor(() => expect(now().state).toBe("waiting-for-agent"));
  act(() => links.at(-1)?.tell(agentHere));
  expect(now().state).toBe("ready");
  return links.at(-1) as FakeLink;
}

describe("under StrictMode", () => {
  it("makes one connection of the double mount", async () => {
    const { now } = use({ autoConnect: true }, StrictMode);
    await inRoom(now);
    expect(service.calls).toEqual(["POST token", "POST dispatch-agent"]);
    expect(links).toHaveLength(1);
    expect(links[0]?.calls).toEqual([expect.stringMatching(/^join token of user-/)]);
  });

  it("leaves once when the component goes", async () => {
    const { now, unmount } = use({ autoConnect: true }, StrictMode);
    await inRoom(now);
    unmount();
    await waitFor(() => expect(links[0]?.calls.at(-1)).toBe("leave"));
    expect(links[0]?.calls).toHaveLength(2);
    expect(service.calls).toEqual(["POST token", "POST dispatch-agent"]);
  });

  it("gives the agent back when the component goes before it is in", async () => {
    FakeLink.hanging = true;
    const { now, unmount } = use({ autoConnect: true }, StrictMode);
    await waitFor(() => expect(now().state).toBe("connecting"));
    unmount();
    await waitFor(() => expect(service.calls.at(-1)).toBe("DELETE dispatch-agent"));
    expect(service.calls).toEqual(["POST token", "POST dispatch-agent", "DELETE dispatch-agent"]);
  });

  it("keeps the connection over renders with options written anew each time", async () => {
    const seen: Livekit[] = [];
    let again = () => {};
    function Page() {
      const [count, setCount] = useState(0);
      again = () => setCount(count + 1);
      seen.push(useLivekit({ createLink: (news) => createLink(news), microphone: false, autoConnect: true }));
      return null;
    }
    render(<Page />, { wrapper: StrictMode });
    await inRoom(() => seen.at(-1) as Livekit);
    act(() => again());
    act(() => again());
    expect(seen.at(-1)?.state).toBe("ready");
    expect(links).toHaveLength(1);
  });
});

describe("a person", () => {
  it("asks nothing of the service before connecting", async () => {
    const { now } = use();
    expect(now()).toMatchObject({ state: "idle", error: null, status: english.phases.idle });
    expect(service.calls).toEqual([]);
    act(() => now().connect());
    await inRoom(now);
    expect(now()).toMatchObject({ agentState: "listening", dispatchId: "AD_1", reused: false });
    expect(now()).toMatchObject({ sessionEndsAt: null, endingSoon: false });
    await act(() => now().disconnect());
    expect(now().state).toBe("ended");
  });

  it("is the same in the same room after a refresh", () => {
    const first = use();
    const { roomName, identity } = first.now();
    first.unmount();
    expect(use().now()).toMatchObject({ roomName, identity });
    expect(roomName).toMatch(/^room-[0-9a-f]{12}$/);
  });

  it("is in another room when told so, and has left the old one", async () => {
    const { now, rerender } = use({ roomName: "first", autoConnect: true });
    const first = await inRoom(now);
    rerender({ roomName: "second" });
    await waitFor(() => expect(links).toHaveLength(2));
    await waitFor(() => expect(first.calls.at(-1)).toBe("leave"));
    await inRoom(now);
    expect(now().roomName).toBe("second");
    const asked = service.bodies.filter((body) => "roomName" in body).map((body) => body.roomName);
    expect(asked).toEqual(["first", "second"]);
  });

  it("reads what is wrong and what to do, and tries again", async () => {
    service.answers["POST dispatch-agent"] = () =>
      json({ success: false, code: "livekit_unavailable", retryable: true }, 503);
    const { now } = use({ autoConnect: true, backoff: quick });
    await waitFor(() => expect(now().state).toBe("failed"));
    expect(now().error).toEqual({
      code: "livekit-unreachable",
      ...english.problems["livekit-unreachable"],
      retryAt: null,
    });
    service.answers["POST dispatch-agent"] = () => json({ dispatchId: "AD_2", reused: true });
    act(() => now().retry());
    await inRoom(now);
    expect(now()).toMatchObject({ error: null, reused: true });
  });

  it("reads it in another language", async () => {
    const messages = { ...english, phases: { ...english.phases, idle: "Nicht verbunden" } };
    expect(use({ messages }).now().status).toBe("Nicht verbunden");
  });

  it("talks, and reads on when the microphone is refused", async () => {
    const { now } = use({ autoConnect: true });
    const link = await inRoom(now);
    link.microphoneProblem = { code: "microphone-refused", retryable: false };
    await act(() => now().audio.setMicrophone(true));
    expect(now()).toMatchObject({ state: "ready", error: { code: "microphone-refused" } });
    link.microphoneProblem = null;
    act(() => now().retry());
    await waitFor(() => expect(now().audio.microphone).toBe("on"));
    expect(now().error).toBeNull();
  });

  it("is told that a click is needed for the sound", async () => {
    const { now } = use({ autoConnect: true });
    const link = await inRoom(now);
    act(() => link.tell({ type: "audio", blocked: true }));
    expect(now().audio.blocked).toBe(true);
    await act(() => now().audio.start());
    expect(link.calls).toContain("start audio");
  });

  it("has the conversation, each utterance once", async () => {
    const { now } = use({ autoConnect: true });
    const link = await inRoom(now);
    await act(() => now().sendText("hello"));
    const answer = { id: "a1", from: "agent", identity: "agent-1" } as const;
    act(() => link.tell({ type: "utterance", utterance: { ...answer, text: "tu", final: false } }));
    act(() => link.tell({ type: "utterance", utterance: { ...answer, text: "turn 1", final: true } }));
    expect(now().conversation.map((one) => `${one.from}: ${one.text}`)).toEqual([
      "me: hello",
      "agent: turn 1",
    ]);
  });

  it("ends the agent and leaves", async () => {
    const { now } = use({ autoConnect: true });
    await inRoom(now);
    await act(() => now().endAgent());
    expect(service.calls.at(-1)).toBe("DELETE dispatch-agent");
    expect(now().state).toBe("ended");
  });
});

describe("credentials of one's own", () => {
  it("are taken from the function of the latest render", async () => {
    const { now, rerender } = use({
      fetchCredentials: async () => ({ serverUrl: "ws://x", participantToken: "old" }),
    });
    rerender({ fetchCredentials: async () => ({ serverUrl: "ws://x", participantToken: "new" }) });
    act(() => now().connect());
    const link = await inRoom(now);
    expect(link.calls).toEqual(["join new"]);
    expect(service.calls).toEqual(["POST dispatch-agent"]);
  });

  it.each([
    [new TypeError("Failed to fetch"), "service-unreachable"],
    [new Error("Error generating token from endpoint /x: received 403 / no"), "not-allowed"],
    [new Error("Error generating token from endpoint /x: received 500 / oh"), "service-unreachable"],
    [new Error("anything else"), "misconfigured"],
  ])("that cannot be had: %s is %s", async (error, code) => {
    const fetchCredentials = () => Promise.reject(error);
    const { now } = use({ autoConnect: true, backoff: quick, fetchCredentials });
    await waitFor(() => expect(now().state).toBe("failed"));
    expect(now().error?.code).toBe(code);
    expect(links).toEqual([]);
  });
});
