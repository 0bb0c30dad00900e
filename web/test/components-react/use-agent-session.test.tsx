// @vitest-environment happy-dom
import {
  SessionProvider,
  useAgent,
  useSessionContext,
  type UseSessionReturn,
} from "@livekit/components-react";
import { act, cleanup, render, screen, waitFor } from "@testing-library/react";
import { DisconnectReason, TokenSource } from "livekit-client";
import { StrictMode } from "react";
import { afterEach, beforeEach, describe, expect, expectTypeOf, it, vi } from "vitest";
import { problemOf } from "../../src";
import { useAgentSession, type AgentSession, type UseAgentSessionOptions } from "../../src/components-react";
import { fakeService, json } from "../react/fake-service";
import { FakeRoom } from "../fake-room";

const listening = { "lk.agent.state": "listening", "lk.agent_name": "helper" };
const quick = { tries: 2, firstMs: 1, longestMs: 1, longestRetryAfterMs: 1_000 };
// {"exp": 4102444800}, since a cached token is decoded.
const PAYLOAD = "eyJleHAiOjQxMDI0NDQ4MDB9";

let service: ReturnType<typeof fakeService>;
let room: FakeRoom;
let session: AgentSession;

beforeEach(() => {
  sessionStorage.clear();
  room = new FakeRoom();
  service = fakeService();
  let issued = 0;
  service.answers["POST token"] = () =>
    json({ server_url: "ws://livekit", participant_token: `a.${PAYLOAD}.${++issued}` }, 201);
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

/** A component like LiveKit's own: it uses a session only. */
function Status() {
  const agent = useAgent();
  const { connectionState, start, end } = useSessionContext();
  return (
    <>
      <p data-testid="connection">{connectionState}</p>
      <p data-testid="agent">{agent.state}</p>
      <button onClick={() => void start()}>start</button>
      <button onClick={() => void end()}>end</button>
    </>
  );
}

function Page({ source, options }: { source: ReturnType<typeof tokens>; options: UseAgentSessionOptions }) {
  session = useAgentSession(source, { room, agentName: "helper", ...options });
  return (
    <SessionProvider session={session}>
      <Status />
    </SessionProvider>
  );
}

function tokens() {
  return TokenSource.endpoint("http://page/api/livekit/token");
}

async function open(options: UseAgentSessionOptions = {}) {
  const page = render(<Page source={tokens()} options={options} />, { wrapper: StrictMode });
  await waitFor(() => expect(service.calls).toContain("POST token"));
  return page;
}

const text = (id: string) => screen.getByTestId(id).textContent;
const press = (name: string) => act(() => screen.getByText(name).click());
const joins = () => room.calls.filter((call) => call.startsWith("connect"));
const dispatches = () => service.calls.filter((call) => call === "POST dispatch-agent");

async function start() {
  await open();
  press("start");
  await waitFor(() => expect(text("connection")).toBe("connected"));
}

describe("LiveKit's components", () => {
  it("find the agent that was asked for before the room was joined", async () => {
    let joinedBefore: string[] | null = null;
    service.answers["POST dispatch-agent"] = () => {
      joinedBefore = joins();
      return json({ dispatchId: "AD_1", reused: false });
    };
    await start();
    expect(joinedBefore).toEqual([]);
    expect(joins()).toHaveLength(1);
    expect(dispatches()).toHaveLength(1);
    act(() => void room.letAgentIn(listening));
    await waitFor(() => expect(text("agent")).toBe("listening"));
    expect(session.lifecycle).toMatchObject({ state: "ready", agentState: "listening", dispatchId: "AD_1" });
  });

  it("leave with the session's end, and no agent is asked for then", async () => {
    await start();
    press("end");
    await waitFor(() => expect(text("connection")).toBe("disconnected"));
    expect(session.lifecycle.state).toBe("ended");
    expect(dispatches()).toHaveLength(1);
  });

  it("leave by the room itself, as its disconnect button does", async () => {
    await start();
    await act(() => room.disconnect());
    expect(session.lifecycle.state).toBe("ended");
    expect(joins()).toHaveLength(1);
  });

  it("come back when the network was lost for good", async () => {
    await open({ backoff: quick });
    press("start");
    await waitFor(() => expect(text("connection")).toBe("connected"));
    act(() => room.drop(DisconnectReason.UNKNOWN_REASON));
    expect(session.lifecycle.state).toBe("reconnecting");
    await waitFor(() => expect(text("connection")).toBe("connected"));
    // The second time with a new token: the first token may have been the fault.
    expect(new Set(joins()).size).toBe(2);
    expect(room.calls.at(-1)).toBe("microphone true");
  });
});

describe("the agent", () => {
  it("is not asked for by opening the page, though a token is fetched", async () => {
    const page = await open();
    page.unmount();
    expect(dispatches()).toEqual([]);
    const asked = service.bodies.map((body) => JSON.stringify(body));
    expect(asked.join()).not.toContain("helper");
  });

  it("is asked for once under StrictMode when the page connects by itself", async () => {
    await open({ autoConnect: true, microphone: false });
    await waitFor(() => expect(text("connection")).toBe("connected"));
    expect(dispatches()).toHaveLength(1);
    expect(room.calls).toEqual([expect.stringMatching(/^connect/)]);
  });

  it("is given back when LiveKit lets nobody in", async () => {
    await open({ backoff: quick });
    room.refusal = new Error("no way in");
    const failure = await act(() => session.start().catch((error: unknown) => error));
    expect(problemOf(failure)).toMatchObject({ code: "livekit-unreachable" });
    await waitFor(() => expect(service.calls.at(-1)).toBe("DELETE dispatch-agent"));
    expect(session.lifecycle).toMatchObject({ state: "failed", error: { code: "livekit-unreachable" } });
  });

  it("is waited for until the start is cancelled", async () => {
    await open();
    const cancel = new AbortController();
    cancel.abort();
    const failure = await act(() => session.start({ signal: cancel.signal }).catch((error: Error) => error));
    expect(failure).toMatchObject({ name: "AbortError" });
    expect(dispatches()).toEqual([]);
    expect(joins()).toEqual([]);
  });
});

describe("the tracks", () => {
  it("are those of LiveKit's own start: the microphone, heard before the room is joined", async () => {
    await start();
    expect(room.microphone).toHaveBeenCalledWith(true, undefined, { preConnectBuffer: true });
  });

  it("are none when none are asked for", async () => {
    await open();
    await act(() => session.start({ tracks: { microphone: { enabled: false } } }));
    expect(room.calls).not.toContain("microphone true");
  });
});

it("is a session as LiveKit's own", () => {
  expectTypeOf<AgentSession>().toExtend<UseSessionReturn>();
});
