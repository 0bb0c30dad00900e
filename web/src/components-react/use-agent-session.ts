import { useSession, type SessionConnectOptions, type UseSessionReturn } from "@livekit/components-react";
import {
  Room,
  type TokenSourceConfigurable,
  type TokenSourceFetchOptions,
  type TokenSourceFixed,
} from "livekit-client";
import { useCallback, useMemo, useRef, useState } from "react";
import { LiveKitLink } from "../livekit-link.js";
import type { Livekit } from "../react/livekit.js";
import { useLivekit, type UseLivekitOptions } from "../react/use-livekit.js";
import { enterRoom } from "./enter-room.js";

/** What `useSession` takes, as far as it goes with an agent that the service gives; and where that is. */
export interface UseAgentSessionOptions
  extends
    Omit<TokenSourceFetchOptions, "agentMetadata" | "deployment">,
    Pick<UseLivekitOptions, "serviceUrl" | "autoConnect" | "microphone" | "messages" | "backoff"> {
  readonly agentConnectTimeoutMilliseconds?: number;
  /** A Room made with options of your own; the same one in every render. */
  readonly room?: Room;
}

/** A session for LiveKit's components, and what the service and this package know besides. */
export type AgentSession = UseSessionReturn & { readonly lifecycle: Livekit };

/**
 * `useSession` with an agent from the service: asked for before the room is joined, given back when nobody gets
 * in, and the way back in after a lost network. Give what it returns to `SessionProvider`.
 *
 * The token source is asked for a token without an agent: `useSession` fetches one when the page is opened and
 * one when it is left, and neither is a reason to bring an agent.
 */
export function useAgentSession(
  tokenSource: TokenSourceConfigurable | TokenSourceFixed,
  options: UseAgentSessionOptions = {},
): AgentSession {
  const { serviceUrl, autoConnect, microphone, messages, backoff, agentName, ...rest } = options;
  const { room: givenRoom, agentConnectTimeoutMilliseconds, ...names } = rest;
  const [ownRoom] = useState(() => givenRoom ?? new Room());
  const room = givenRoom ?? ownRoom;
  const connectOptions = useRef<SessionConnectOptions["roomConnectOptions"]>(undefined);
  const fetched = useRef(false);

  const lifecycle = useLivekit({
    roomName: names.roomName,
    identity: names.participantIdentity,
    agentName,
    serviceUrl,
    autoConnect,
    microphone,
    messages,
    backoff,
    fetchCredentials: () => {
      // One that has been used may be the reason why we are here again.
      const force = fetched.current;
      fetched.current = true;
      // A fixed source takes no notice of what it is asked for.
      const source: TokenSourceConfigurable = tokenSource;
      return source.fetch(asked, force);
    },
    createLink: (onNews) =>
      new LiveKitLink(onNews, {
        room,
        ...(agentName !== undefined && { agentName }),
        ...(connectOptions.current && { connectOptions: connectOptions.current }),
      }),
  });
  const asked = { ...names, roomName: lifecycle.roomName, participantIdentity: lifecycle.identity };

  const session = useSession(tokenSource, {
    ...asked,
    room,
    ...(agentConnectTimeoutMilliseconds !== undefined && { agentConnectTimeoutMilliseconds }),
  });

  const { connection } = lifecycle;
  const start = useCallback(
    async (given: SessionConnectOptions = {}) => {
      connectOptions.current = given.roomConnectOptions;
      await enterRoom(connection, room, given);
    },
    [connection, room],
  );
  const end = useCallback(() => connection.disconnect(), [connection]);
  return useMemo(() => ({ ...session, start, end, lifecycle }), [session, start, end, lifecycle]);
}
