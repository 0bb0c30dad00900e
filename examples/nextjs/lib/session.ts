// Who is signed in: a signed cookie, in place of your app's own sessions.
import { SignJWT, jwtVerify } from "jose";
import { cookies } from "next/headers";

import { sessionKey } from "./session-key";

const NAME = "session";
const LIFE_S = 8 * 3600;

/** The name of the person, or null. */
export async function signedIn(): Promise<string | null> {
  const cookie = (await cookies()).get(NAME);
  if (!cookie) return null;
  try {
    const { payload } = await jwtVerify(cookie.value, sessionKey(), { algorithms: ["HS256"] });
    return payload.sub ?? null;
  } catch {
    return null; // forged, or too old
  }
}

export async function signIn(person: string): Promise<void> {
  const session = await new SignJWT()
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(person)
    .setExpirationTime(`${LIFE_S} s`)
    .sign(sessionKey());
  await setCookie(session, LIFE_S);
}

export async function signOut(): Promise<void> {
  await setCookie("", 0);
}

async function setCookie(value: string, maxAge: number): Promise<void> {
  (await cookies()).set(NAME, value, {
    httpOnly: true,
    sameSite: "lax",
    // For development alone: http shows the cookie to everybody on the way.
    secure: process.env.INSECURE_COOKIE !== "1",
    maxAge,
  });
}
