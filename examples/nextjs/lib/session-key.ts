const SHORTEST_SECRET = 32;

/** The key that signs sessions; who guesses it is signed in as anybody. */
export function sessionKey(): Uint8Array {
  const secret = process.env.SESSION_SECRET ?? "";
  if (secret.length < SHORTEST_SECRET) {
    throw new Error(`SESSION_SECRET has less than ${SHORTEST_SECRET} characters`);
  }
  return new TextEncoder().encode(secret);
}
