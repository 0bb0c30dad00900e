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

/** The options of `useSession` that make sense with the service's agent, and the service's own. */
export interface UseAgentSessionOptions
  extends
    Omit<TokenSourceFetchOptions, "agentMetadata" | "deployment">,
    Pick<UseLivekitOptions, "serviceUrl" | "autoConnect" | "microphone" | "messages" | "backoff"> {
  readonly agentConnectTimeoutMilliseconds?: number;
  /** A Room made with options of your own; the same one in every render. */
  readonly room?: Room;
}

/** A session for LiveKit's components, plus what the service and this package know. */
export type AgentSession = UseSessionReturn & { readonly lifecycle: Livekit };

/**
 * `useSession` with an agent from the service. The hook requests the agent before it joins the room, gives it
 * back when nobody joins, and reconnects after a lost network. Pass the result to `SessionProvider`.
 *
 * The token source gets a request without an agent: `useSession` fetches a token when the page is opened and
 * another when it is left, and neither should dispatch an agent.
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
      // A token that was used may be the reason for this retry.
      const force = fetched.current;
      fetched.current = true;
      // A fixed source ignores the options.
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
