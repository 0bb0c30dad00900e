import {
  ConnectionState,
  DisconnectReason,
  ParticipantKind,
  RemoteParticipant,
  Room,
  RoomEvent,
} from "livekit-client";
import { vi } from "vitest";

/** A real Room without a network: it reports that it is connected, and its participants. */
export class FakeRoom extends Room {
  readonly calls: string[] = [];
  refusal: Error | null = null;
  readonly microphone = vi.spyOn(this.localParticipant, "setMicrophoneEnabled");

  constructor() {
    super();
    this.microphone.mockImplementation(async (on) => {
      this.calls.push(`microphone ${on}`);
      return undefined;
    });
    this.prepareConnection = async () => undefined;
    this.connect = async (_url, token) => {
      this.calls.push(`connect ${token}`);
      if (this.refusal) throw this.refusal;
      this.#become(ConnectionState.Connected);
      this.emit(RoomEvent.Connected);
    };
    this.disconnect = async () => {
      if (this.state === ConnectionState.Disconnected) return;
      this.calls.push("disconnect");
      this.drop(DisconnectReason.CLIENT_INITIATED);
    };
  }

  drop(reason: DisconnectReason): void {
    this.remoteParticipants.clear();
    this.#become(ConnectionState.Disconnected);
    this.emit(RoomEvent.Disconnected, reason);
  }

  letAgentIn(attributes: Record<string, string>): RemoteParticipant {
    const number = this.remoteParticipants.size + 1;
    const agent = new RemoteParticipant(
      // These tests ignore what a participant sends to the server.
      {} as ConstructorParameters<typeof RemoteParticipant>[0],
      `PA_${number}`,
      `agent-${number}`,
      "Agent",
      "",
      attributes,
      undefined,
      ParticipantKind.AGENT,
    );
    this.remoteParticipants.set(agent.identity, agent);
    this.emit(RoomEvent.ParticipantConnected, agent);
    return agent;
  }

  #become(state: ConnectionState): void {
    this.state = state;
    this.emit(RoomEvent.ConnectionStateChanged, state);
  }
}
