export {
  AgentConnection,
  type AgentConnectionOptions,
  type AgentDesk,
  type Surroundings,
} from "./agent-connection";
export {
  AgentService,
  tokenEndpoint,
  type AgentServiceOptions,
  type AgentStatus,
  type Credentials,
  type Granted,
  type TokenEndpointOptions,
} from "./agent-service";
export { defaultBackoff, type Backoff } from "./backoff";
export { randomName, remembered, sessionIdentity, tabStorage } from "./identity";
export { LiveKitLink } from "./livekit-link";
export { english, type Message, type Messages } from "./messages";
export { ProblemError, problemOf, type Problem, type ProblemCode } from "./problems";
export type { RoomLink, RoomLinkFactory, RoomNews, Utterance } from "./room-link";
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
} from "./state";
