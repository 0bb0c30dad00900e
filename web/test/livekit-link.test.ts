// @vitest-environment happy-dom
import {
  ConnectionError,
  DisconnectReason,
  LocalTrackPublication,
  RoomEvent,
  Track,
  type TrackPublication,
} from "livekit-client";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { LiveKitLink, problemOf, type RoomNews } from "../src";
import { FakeRoom } from "./fake-room";

const credentials = { serverUrl: "ws://livekit", participantToken: "token" };

let room: FakeRoom;
let news: RoomNews[];

beforeEach(() => {
  room = new FakeRoom();
  news = [];
});

async function joined(agentName?: string): Promise<LiveKitLink> {
  const link = new LiveKitLink((one) => news.push(one), { room, ...(agentName && { agentName }) });
  await link.join(credentials);
  return link;
}

const agents = () => news.filter((one) => one.type === "agent").map((one) => one.ready);

describe("who is in", () => {
  it("is ready once its session says a state", async () => {
    await joined();
    const agent = room.letAgentIn({ "lk.agent.state": "initializing" });
    const said = { "lk.agent.state": "listening" };
    vi.spyOn(agent, "attributes", "get").mockReturnValue(said);
    room.emit(RoomEvent.ParticipantAttributesChanged, said, agent);
    expect(agents()).toEqual([false, false, true]);
  });

  it("is not our agent when it has another name, or stands in for one", async () => {
    await joined("helper");
    room.letAgentIn({ "lk.agent.state": "listening", "lk.agent_name": "other" });
    room.letAgentIn({ "lk.agent.state": "listening", "lk.publish_on_behalf": "agent-1" });
    expect(agents()).toEqual([false, false, false]);
    room.letAgentIn({ "lk.agent.state": "listening", "lk.agent_name": "helper" });
    expect(agents().at(-1)).toBe(true);
  });
});

describe("being put out", () => {
  it.each([
    [DisconnectReason.DUPLICATE_IDENTITY, "taken-over", false],
    [DisconnectReason.PARTICIPANT_REMOVED, "room-closed", false],
    [DisconnectReason.ROOM_DELETED, "room-closed", false],
    [DisconnectReason.SERVER_SHUTDOWN, "livekit-unreachable", true],
    [DisconnectReason.UNKNOWN_REASON, "livekit-unreachable", true],
  ])("for reason %i is %s", async (reason, code, retryable) => {
    await joined();
    room.drop(reason);
    expect(news.at(-1)).toMatchObject({ type: "closed", problem: { code, retryable } });
  });

  it("by another part of the page is to have left", async () => {
    await joined();
    await room.disconnect();
    expect(news.at(-1)).toEqual({ type: "left" });
  });

  it("is the last that it says; the room may be joined by another link", async () => {
    await joined();
    room.drop(DisconnectReason.UNKNOWN_REASON);
    const before = news.length;
    const other: RoomNews[] = [];
    await new LiveKitLink((one) => other.push(one), { room }).join(credentials);
    room.letAgentIn({ "lk.agent.state": "listening" });
    expect(other.at(-1)).toMatchObject({ type: "agent", ready: true });
    expect(news).toHaveLength(before);
  });
});

describe("not getting in", () => {
  it.each([
    [ConnectionError.notAllowed("expired", 401), "not-allowed", false],
    [ConnectionError.serverUnreachable("nobody there"), "livekit-unreachable", true],
  ])("with %s is %s", async (error, code, retryable) => {
    room.refusal = error;
    const failure = await joined().catch((thrown: unknown) => thrown);
    expect(problemOf(failure)).toMatchObject({ code, retryable });
    expect(news).toEqual([]);
  });
});

describe("the microphone", () => {
  it.each([
    ["NotAllowedError", "refused", "microphone-refused"],
    ["NotFoundError", "missing", "microphone-missing"],
    ["NotReadableError", "missing", "microphone-missing"],
  ])("that the browser answers with %s is %s", async (name, state, code) => {
    const link = await joined();
    const error = new DOMException("no", name);
    room.microphone.mockRejectedValueOnce(error);
    const failure = await link.setMicrophone(true).catch((thrown: unknown) => thrown);
    expect(problemOf(failure).code).toBe(code);
    // And when LiveKit's own button turned it on.
    room.emit(RoomEvent.MediaDevicesError, error, "audioinput");
    expect(news.at(-1)).toEqual({ type: "microphone", state });
  });

  it("is followed when LiveKit's own button turns it off and on", async () => {
    await joined();
    const track = Object.create(LocalTrackPublication.prototype, {
      source: { value: Track.Source.Microphone },
    }) as LocalTrackPublication;
    const me = room.localParticipant;
    room.emit(RoomEvent.TrackMuted, track as TrackPublication, me);
    room.emit(RoomEvent.TrackUnmuted, track as TrackPublication, me);
    room.emit(RoomEvent.LocalTrackUnpublished, track, me);
    expect(news.filter((one) => one.type === "microphone")).toEqual([
      { type: "microphone", state: "off", wanted: false },
      { type: "microphone", state: "on", wanted: true },
      { type: "microphone", state: "off" },
    ]);
  });
});
