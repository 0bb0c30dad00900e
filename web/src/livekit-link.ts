import {
  ConnectionError,
  ConnectionErrorReason,
  DisconnectReason,
  MediaDeviceFailure,
  LocalTrackPublication,
  Room,
  RoomEvent,
  Track,
  type RemoteParticipant,
  type RemoteTrack,
  type RoomConnectOptions,
  type RoomEventCallbacks,
  type TextStreamReader,
  type TrackPublication,
} from "livekit-client";
import type { Credentials } from "./agent-service.js";
import { ProblemError, type Problem } from "./problems.js";
import type { RoomLink, RoomNews, Utterance } from "./room-link.js";

const CHAT_TOPIC = "lk.chat";
const TRANSCRIPTION_TOPIC = "lk.transcription";
const AGENT_STATE = "lk.agent.state";
const AGENT_NAME = "lk.agent_name";
/** A participant that publishes for an agent, such as its avatar, is not an agent itself. */
const ON_BEHALF_OF = "lk.publish_on_behalf";
/** An agent without an AgentSession reports no state: it counts as ready after this time. */
const SILENT_AGENT_MS = 3_000;

export interface LiveKitLinkOptions {
  /** The agent to look for; default: any. */
  readonly agentName?: string;
  /**
   * A Room whose owner handles its sound and texts, as LiveKit's own components do. Without it the link makes
   * a new Room, plays its sound and passes on its texts.
   */
  readonly room?: Room;
  readonly connectOptions?: RoomConnectOptions;
}

/** The RoomLink on livekit-client. */
export class LiveKitLink implements RoomLink {
  readonly #room: Room;
  readonly #isShared: boolean;
  readonly #onNews: (news: RoomNews) => void;
  readonly #agentName: string | undefined;
  readonly #connectOptions: RoomConnectOptions | undefined;
  readonly #stops: (() => void)[] = [];
  readonly #firstSeen = new Map<string, number>();
  #silenceTimer: ReturnType<typeof setTimeout> | undefined;
  #joined = false;
  #left = false;

  constructor(onNews: (news: RoomNews) => void, options: LiveKitLinkOptions = {}) {
    const { agentName, room, connectOptions } = options;
    this.#onNews = onNews;
    this.#agentName = agentName;
    this.#connectOptions = connectOptions;
    this.#room = room ?? new Room();
    this.#isShared = room !== undefined;
    this.#listen();
    if (!room) this.#playAndRead();
  }

  async join(credentials: Credentials): Promise<void> {
    try {
      const { serverUrl, participantToken } = credentials;
      await this.#room.connect(serverUrl, participantToken, this.#connectOptions);
    } catch (error) {
      this.#stop();
      throw new ProblemError(joinProblem(error));
    }
    this.#joined = true;
    this.#tellAll();
  }

  async leave(): Promise<void> {
    this.#stop();
    await this.#room.disconnect();
  }

  async setMicrophone(on: boolean): Promise<void> {
    try {
      await this.#room.localParticipant.setMicrophoneEnabled(on);
    } catch (error) {
      const code = isRefusal(error) ? "microphone-refused" : "microphone-missing";
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
    const look = () => this.#lookForAgent();
    const interrupted = () => this.#tell({ type: "interrupted" });
    this.#on(RoomEvent.ParticipantConnected, look);
    this.#on(RoomEvent.ParticipantDisconnected, look);
    this.#on(RoomEvent.ParticipantAttributesChanged, look);
    this.#on(RoomEvent.SignalReconnecting, interrupted);
    this.#on(RoomEvent.Reconnecting, interrupted);
    this.#on(RoomEvent.Reconnected, () => this.#tellAll());
    this.#on(RoomEvent.Disconnected, (reason) => {
      // The link's own Room reports this too when the page closes, which is no request to leave.
      const left = this.#isShared && reason === DisconnectReason.CLIENT_INITIATED;
      this.#tell(left ? { type: "left" } : { type: "closed", problem: closedProblem(reason) });
      this.#stop();
    });
    this.#on(RoomEvent.AudioPlaybackStatusChanged, () => this.#tellAudio());
    this.#on(RoomEvent.LocalTrackPublished, (track) => this.#tellMicrophone(track, true));
    this.#on(RoomEvent.TrackUnmuted, (track) => this.#tellMicrophone(track, true));
    this.#on(RoomEvent.TrackMuted, (track) => this.#tellMicrophone(track, false));
    this.#on(RoomEvent.LocalTrackUnpublished, (track) => this.#tellMicrophone(track));
    this.#on(RoomEvent.MediaDevicesError, (error, kind) => {
      if (kind !== "audioinput") return;
      this.#tell({ type: "microphone", state: isRefusal(error) ? "refused" : "missing" });
    });
  }

  #playAndRead(): void {
    this.#on(RoomEvent.TrackSubscribed, attachAudio);
    this.#on(RoomEvent.TrackUnsubscribed, (track) => track.detach().forEach((element) => element.remove()));
    for (const topic of [TRANSCRIPTION_TOPIC, CHAT_TOPIC]) {
      this.#room.registerTextStreamHandler(topic, (reader, { identity }) => {
        void this.#read(reader, identity);
      });
    }
  }

  #on<E extends keyof RoomEventCallbacks>(event: E, listener: RoomEventCallbacks[E]): void {
    this.#room.on(event, listener);
    this.#stops.push(() => this.#room.off(event, listener));
  }

  /** An abandoned link reports nothing more; another link may reuse the Room. */
  #stop(): void {
    this.#left = true;
    clearTimeout(this.#silenceTimer);
    for (const stop of this.#stops.splice(0)) stop();
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
    // LiveKit sets the attribute; older servers do not, and then any agent matches.
    const name = attributes[AGENT_NAME];
    return this.#agentName === undefined || name === undefined || name === this.#agentName;
  }

  /** Presence is not enough: before its session has started, the agent hears nothing. */
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
      // The sender left in the middle; the received part stays.
    }
    const final = attributes["lk.transcription_final"] !== "false";
    if (text) this.#tell({ type: "utterance", utterance: { id, from, identity, text, final } });
  }

  #whoIs(identity: string): Utterance["from"] {
    if (identity === this.#room.localParticipant.identity) return "me";
    return this.#room.remoteParticipants.get(identity)?.isAgent ? "agent" : "other";
  }

  /** `wanted` if somebody turned it on or off; a track also ends with its room. */
  #tellMicrophone(track: TrackPublication, wanted?: boolean): void {
    if (track.source !== Track.Source.Microphone || !(track instanceof LocalTrackPublication)) return;
    const state = wanted ? "on" : "off";
    this.#tell({ type: "microphone", state, ...(wanted !== undefined && { wanted }) });
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

function isRefusal(error: unknown): boolean {
  return MediaDeviceFailure.getFailure(error) === MediaDeviceFailure.PermissionDenied;
}
