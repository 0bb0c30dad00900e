import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { AgentConnection } from "../agent-connection.js";
import { AgentService, tokenEndpoint } from "../agent-service.js";
import type { Backoff } from "../backoff.js";
import { withProblems, type FetchCredentials } from "../credentials.js";
import { sessionIdentity, sessionRoom } from "../identity.js";
import { LiveKitLink } from "../livekit-link.js";
import { english, type Messages } from "../messages.js";
import type { RoomLinkFactory } from "../room-link.js";
import { Transcript } from "../transcript.js";
import { livekitOf, type Livekit } from "./livekit.js";

export interface UseLivekitOptions {
  /** A room of this tab's own, unless told; the same after a refresh. */
  readonly roomName?: string | undefined;
  /** Who this is to LiveKit; made up for this tab, unless told, and the same after a refresh. */
  readonly identity?: string | undefined;
  readonly displayName?: string | undefined;
  /** One of the service's agents; its first, unless told. */
  readonly agentName?: string | undefined;
  /** Where the service is; the page's own origin, unless told. */
  readonly serviceUrl?: string | undefined;
  /**
   * Where the token comes from: your own endpoint, as a rule. The service's own, unless told, which is open to
   * everybody only in `dev`. Called before each try to get in.
   */
  readonly fetchCredentials?: FetchCredentials | undefined;
  /** Whether to talk (the default), or only to type and listen. */
  readonly microphone?: boolean | undefined;
  /** Connect as soon as the component is there, without `connect()`. */
  readonly autoConnect?: boolean | undefined;
  /** The sentences to show; English ones, unless told. */
  readonly messages?: Messages | undefined;
  readonly backoff?: Backoff | undefined;
  /** The way into the room; livekit-client, unless told. */
  readonly createLink?: RoomLinkFactory | undefined;
}

/**
 * One person in one room with one agent, for as long as the component is there.
 *
 * Connects once under StrictMode, and leaves when the component goes. Another `roomName`, `identity`, `agentName`
 * or `serviceUrl` is another connection: the old one is left. The other options may change at any time.
 */
export function useLivekit(options: UseLivekitOptions = {}): Livekit {
  const { autoConnect = false, messages = english } = options;
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });

  const place = placeOf(options);
  const [held, setHeld] = useState(() => begin(place, options, latest));
  if (held.place !== place) setHeld(begin(place, options, latest));
  const { connection, transcript, names } = held;

  useEffect(() => () => void connection.disconnect(), [connection]);
  useEffect(() => {
    if (autoConnect) connection.connect();
  }, [connection, autoConnect]);

  const state = useSyncExternalStore(connection.subscribe, connection.getSnapshot, connection.getSnapshot);
  const conversation = useSyncExternalStore(
    transcript.subscribe,
    transcript.getSnapshot,
    transcript.getSnapshot,
  );
  return useMemo(
    () => ({ ...livekitOf(connection, state, conversation, messages), ...names }),
    [connection, state, conversation, messages, names],
  );
}

/** The options that make a connection this one and no other. */
function placeOf({ roomName, identity, agentName, serviceUrl }: UseLivekitOptions): string {
  return JSON.stringify([roomName, identity, agentName, serviceUrl]);
}

/** Does nothing yet: StrictMode throws one of two away. */
function begin(place: string, options: UseLivekitOptions, latest: { readonly current: UseLivekitOptions }) {
  const { agentName, serviceUrl = "", microphone = true, backoff } = options;
  const names = {
    roomName: options.roomName ?? sessionRoom(),
    identity: options.identity ?? sessionIdentity(),
  };
  const only = agentName === undefined ? {} : { agentName };
  const connection = new AgentConnection({
    desk: new AgentService({
      roomName: names.roomName,
      timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
      baseUrl: serviceUrl,
      ...only,
    }),
    fetchCredentials: (signal) => {
      const { fetchCredentials, displayName } = latest.current;
      const url = `${serviceUrl}/api/livekit/token`;
      const own = tokenEndpoint({ url, ...names, ...(displayName && { displayName }) });
      return withProblems(fetchCredentials ?? own)(signal);
    },
    createLink: options.createLink ?? ((onNews) => new LiveKitLink(onNews, only)),
    microphone,
    ...(backoff && { backoff }),
  });
  const transcript = new Transcript();
  connection.onUtterance(transcript.hear);
  return { place, names, connection, transcript };
}
