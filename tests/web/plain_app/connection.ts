import {
  AgentConnection,
  AgentService,
  LiveKitLink,
  sessionIdentity,
  tokenEndpoint,
} from "agent-lifecycle-client";

/** Only its types are looked at: the page does not import it. */
export function connect(roomName: string): AgentConnection {
  const connection = new AgentConnection({
    desk: new AgentService({ roomName }),
    fetchCredentials: tokenEndpoint({ url: "/api/livekit/token", roomName, identity: sessionIdentity() }),
    createLink: (onNews) => new LiveKitLink(onNews),
  });
  connection.connect();
  return connection;
}
