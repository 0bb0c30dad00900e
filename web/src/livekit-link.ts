import {
  ConnectionError,
  ConnectionErrorReason,
  DisconnectReason,
  MediaDeviceFailure,
  Room,
  RoomEvent,
  Track,
  type RemoteParticipant,
  type RemoteTrack,
  type TextStreamReader,
} from "livekit-client";
import type { Credentials } from "./agent-service";
import { ProblemError, type Problem } from "./problems";
import type { RoomLink, RoomNews, Utterance } from "./room-link";

const CHAT_TOPIC = "lk.chat";
const TRANSCRIPTION_TOPIC = "lk.transcription";
const AGENT_STATE = "lk.agent.state";
const AGENT_NAME = "lk.agent_name";
/** What stands in for an agent, such as its avatar, is no agent of its own. */
const ON_BEHALF_OF = "lk.publish_on_behalf";
/** An agent that is no AgentSession says no state: it counts as ready after this. */
const SILENT_AGENT_MS = 3_000;

/** The real RoomLink: livekit-client, and nobody else here knows it. */
export class LiveKitLink implements RoomLink {
  readonly #room = new Room();
  readonly #onNews: (news: RoomNews) => void;
  readonly #agentName: string | undefined;
  readonly #firstSeen = new Map<string, number>();
  #silenceTimer: ReturnType<typeof setTimeout> | undefined;
  #joined = false;
  #left = false;

  constructor(onNews: (news: RoomNews) => void, agentName?: string) {
    this.#onNews = onNews;
    this.#agentName = agentName;
    this.#listen();
  }

  async join(credentials: Credentials): Promise<void> {
    try {
      await this.#room.connect(credentials.serverUrl, credentials.participantToken);
    } catch (error) {
      throw new ProblemError(joinProblem(error));
    }
    this.#joined = true;
    this.#tellAll();
  }

  async leave(): Promise<void> {
    this.#left = true;
    clearTimeout(this.#silenceTimer);
    await this.#room.disconnect();
  }

  async setMicrophone(on: boolean): Promise<void> {
    try {
      await this.#room.localParticipant.setMicrophoneEnabled(on);
    } catch (error) {
      const refused = MediaDeviceFailure.getFailure(error) === MediaDeviceFailure.PermissionDenied;
      const code = refused ? "microphone-refused" : "microphone-missing";
      throw new ProblemError({ code, retryable: false, detail: String(error) });
    }
  }

  async sendText(text: string): Promise<Utterance> {
    const info = await this.#room.localParticipant.sendText(text, { topic: CHAT_TOPIC });
    const { identity } = this.#room.localParticipant;
    return { id: info.id, from: "me", identity, text, final: true };
  }

  startAudio(): Promise<void> {
    return this.#room.startAudio();
  }

  #listen(): void {
    const room = this.#room;
    const look = () => this.#lookForAgent();
    room
      .on(RoomEvent.ParticipantConnected, look)
      .on(RoomEvent.ParticipantDisconnected, look)
      .on(RoomEvent.ParticipantAttributesChanged, look)
      .on(RoomEvent.SignalReconnecting, () => this.#tell({ type: "interrupted" }))
      .on(RoomEvent.Reconnecting, () => this.#tell({ type: "interrupted" }))
      .on(RoomEvent.Reconnected, () => this.#tellAll())
      .on(RoomEvent.Disconnected, (reason) => {
        this.#tell({ type: "closed", problem: closedProblem(reason) });
      })
      .on(RoomEvent.AudioPlaybackStatusChanged, () => this.#tellAudio())
      .on(RoomEvent.LocalTrackUnpublished, (publication) => {
        if (publication.source === Track.Source.Microphone) this.#tell({ type: "microphone", on: false });
      })
      .on(RoomEvent.TrackSubscribed, attachAudio)
      .on(RoomEvent.TrackUnsubscribed, (track) => track.detach().forEach((element) => element.remove()));
    room.registerTextStreamHandler(TRANSCRIPTION_TOPIC, (reader, { identity }) => {
      void this.#read(reader, identity);
    });
    room.registerTextStreamHandler(CHAT_TOPIC, (reader, { identity }) => {
      void this.#read(reader, identity);
    });
  }

  #tellAll(): void {
    this.#tell({ type: "joined" });
    this.#lookForAgent();
    this.#tellAudio();
  }

  #lookForAgent(): void {
    clearTimeout(this.#silenceTimer);
    const agents = [...this.#room.remoteParticipants.values()].filter((one) => this.#isAgent(one));
    const state = agents[0]?.attributes[AGENT_STATE] ?? null;
    const ready = agents.some((agent) => this.#isReady(agent));
    this.#tell({ type: "agent", ready, state });
    if (agents.length > 0 && !ready) {
      this.#silenceTimer = setTimeout(() => this.#lookForAgent(), SILENT_AGENT_MS);
    }
  }

  #isAgent(participant: RemoteParticipant): boolean {
    const { isAgent, attributes } = participant;
    if (!isAgent || attributes[ON_BEHALF_OF] !== undefined) return false;
    // The attribute is LiveKit's own; servers older than it tell no name, and then any agent will do.
    const name = attributes[AGENT_NAME];
    return this.#agentName === undefined || name === undefined || name === this.#agentName;
  }

  /** In the room is not enough: what is said before its session has started, nobody hears. */
  #isReady(agent: RemoteParticipant): boolean {
    const state = agent.attributes[AGENT_STATE];
    if (state !== undefined) return state !== "initializing";
    const seen = this.#firstSeen.get(agent.sid) ?? Date.now();
    this.#firstSeen.set(agent.sid, seen);
    return Date.now() - seen >= SILENT_AGENT_MS;
  }

  async #read(reader: TextStreamReader, identity: string): Promise<void> {
    const attributes = reader.info.attributes ?? {};
    const id = attributes["lk.segment_id"] ?? reader.info.id;
    const from = this.#whoIs(identity);
    let text = "";
    try {
      for await (const delta of reader) {
        text += delta;
        this.#tell({ type: "utterance", utterance: { id, from, identity, text, final: false } });
      }
    } catch {
      // Its sender left in the middle; what has come stays.
    }
    const final = attributes["lk.transcription_final"] !== "false";
    if (text) this.#tell({ type: "utterance", utterance: { id, from, identity, text, final } });
  }

  #whoIs(identity: string): Utterance["from"] {
    if (identity === this.#room.localParticipant.identity) return "me";
    return this.#room.remoteParticipants.get(identity)?.isAgent ? "agent" : "other";
  }

  #tellAudio(): void {
    this.#tell({ type: "audio", blocked: !this.#room.canPlaybackAudio });
  }

  #tell(news: RoomNews): void {
    if (this.#joined && !this.#left) this.#onNews(news);
  }
}

function attachAudio(track: RemoteTrack): void {
  if (track.kind !== Track.Kind.Audio) return;
  const element = track.attach();
  element.hidden = true;
  document.body.append(element);
}

function joinProblem(error: unknown): Problem {
  const detail = String(error);
  if (error instanceof ConnectionError && error.reason === ConnectionErrorReason.NotAllowed) {
    return { code: "not-allowed", retryable: false, detail };
  }
  return { code: "livekit-unreachable", retryable: true, detail };
}

function closedProblem(reason: DisconnectReason | undefined): Problem {
  const detail = DisconnectReason[reason ?? DisconnectReason.UNKNOWN_REASON] ?? "";
  switch (reason) {
    case DisconnectReason.DUPLICATE_IDENTITY:
      return { code: "taken-over", retryable: false, detail };
    case DisconnectReason.PARTICIPANT_REMOVED:
    case DisconnectReason.ROOM_DELETED:
    case DisconnectReason.ROOM_CLOSED:
      return { code: "room-closed", retryable: false, detail };
    default:
      return { code: "livekit-unreachable", retryable: true, detail };
  }
}
