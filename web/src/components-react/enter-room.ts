import type { SessionConnectOptions } from "@livekit/components-react";
import type { Room } from "livekit-client";
import type { AgentConnection } from "../agent-connection.js";
import { ProblemError } from "../problems.js";
import { isAtRest, isInRoom } from "../state.js";

/** LiveKit's default tracks of a session: the microphone, recorded before the room is joined. */
const USUAL_TRACKS: SessionConnectOptions["tracks"] = {
  microphone: { enabled: true, publishOptions: { preConnectBuffer: true } },
};

/**
 * Connects, with the tracks that LiveKit's `session.start` turns on. Resolves in the room. Rejects with a
 * ProblemError if joining fails, and with the browser's error if it denies a device.
 */
export async function enterRoom(
  connection: AgentConnection,
  room: Room,
  { signal, tracks = USUAL_TRACKS }: SessionConnectOptions,
): Promise<void> {
  const { microphone, camera, screenShare } = tracks ?? {};
  const me = room.localParticipant;
  // This also applies when the room is joined again.
  void connection.setMicrophone(microphone?.enabled ?? false);
  connection.connect();
  await Promise.all([
    untilInRoom(connection, signal),
    microphone?.enabled && me.setMicrophoneEnabled(true, undefined, microphone.publishOptions),
    camera?.enabled && me.setCameraEnabled(true, undefined, camera.publishOptions),
    screenShare?.enabled && me.setScreenShareEnabled(true, undefined, screenShare.publishOptions),
  ]);
}

function untilInRoom(connection: AgentConnection, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = () => void connection.disconnect();
    const settle = (done: () => void) => {
      unsubscribe();
      signal?.removeEventListener("abort", leave);
      done();
    };
    const look = () => {
      const { phase, problem } = connection.getSnapshot();
      if (isInRoom(phase)) settle(resolve);
      else if (isAtRest(phase)) settle(() => reject(problem ? new ProblemError(problem) : cancelled()));
    };
    const unsubscribe = connection.subscribe(look);
    signal?.addEventListener("abort", leave);
    if (signal?.aborted) leave();
    look();
  });
}

function cancelled(): DOMException {
  return new DOMException("left before the room was joined", "AbortError");
}
