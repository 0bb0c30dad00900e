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
  /** Default: this tab's own room; the same after a refresh. */
  readonly roomName?: string | undefined;
  /** The LiveKit identity. Default: generated for this tab; the same after a refresh. */
  readonly identity?: string | undefined;
  readonly displayName?: string | undefined;
  /** One of the service's agents; default: its first. */
  readonly agentName?: string | undefined;
  /** The service's address; default: the page's own origin. */
  readonly serviceUrl?: string | undefined;
  /**
   * Fetches the token, usually from your own endpoint. Default: the service's own, which is open to everybody
   * only in `dev`. Called before each try to join.
   */
  readonly fetchCredentials?: FetchCredentials | undefined;
  /** `true` (the default): talk; `false`: only type and listen. */
  readonly microphone?: boolean | undefined;
  /** Connect when the component mounts, without `connect()`. */
  readonly autoConnect?: boolean | undefined;
  /** The sentences to show; default: English. */
  readonly messages?: Messages | undefined;
  readonly backoff?: Backoff | undefined;
  /** Makes the link to the room; default: livekit-client. */
  readonly createLink?: RoomLinkFactory | undefined;
}

/**
 * One person in one room with one agent, as long as the component is mounted.
 *
 * Connects once under StrictMode, and leaves when the component unmounts. A new `roomName`, `identity`,
 * `agentName` or `serviceUrl` makes a new connection and leaves the old one. The other options may change at
 * any time.
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

/** Identifies a connection by the options that define it. */
function placeOf({ roomName, identity, agentName, serviceUrl }: UseLivekitOptions): string {
  return JSON.stringify([roomName, identity, agentName, serviceUrl]);
}

/** Makes a connection without connecting: StrictMode discards one of two. */
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
