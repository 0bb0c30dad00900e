export { AgentConnection, type AgentConnectionOptions } from "./agent-connection.js";
export {
  AgentService,
  tokenEndpoint,
  type AgentDesk,
  type AgentServiceOptions,
  type AgentStatus,
  type Credentials,
  type Granted,
  type TokenEndpointOptions,
} from "./agent-service.js";
export { defaultBackoff, type Backoff } from "./backoff.js";
export { withProblems, type FetchCredentials } from "./credentials.js";
export {
  claimIdentity,
  randomName,
  remembered,
  sessionIdentity,
  sessionRoom,
  tabStorage,
} from "./identity.js";
export { LiveKitLink, type LiveKitLinkOptions } from "./livekit-link.js";
export { english, type Message, type Messages } from "./messages.js";
export { ProblemError, problemOf, type Problem, type ProblemCode } from "./problems.js";
export type { RoomLink, RoomLinkFactory, RoomNews, Utterance } from "./room-link.js";
export {
  initialState,
  isAtRest,
  isInRoom,
  reduce,
  TABLE,
  type ConnectionEvent,
  type ConnectionState,
  type Microphone,
  type Phase,
} from "./state.js";
export { realSurroundings, type Surroundings } from "./surroundings.js";
export { Transcript } from "./transcript.js";
