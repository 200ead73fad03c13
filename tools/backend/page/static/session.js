// The administrator's token, and requests that carry it. It lives in sessionStorage: a reload keeps
// it, closing the window forgets it, and no address ever holds it (a fragment is not sent, and is
// taken out of the address at once).

const KEY = "fotilla-admin-token";
const SHAPE = /^[\x21-\x7e]{1,600}$/;

export class SignedOut extends Error {}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Unreachable extends Error {
  constructor() { super("The backend does not answer"); }
}

export const token = () => sessionStorage.getItem(KEY);
export const forget = () => sessionStorage.removeItem(KEY);

// Take the token out of `#token=...`, if there is one.
export function fromAddress() {
  const match = /^#token=(.*)$/.exec(location.hash);
  if (!match) return;
  history.replaceState(null, "", "#/campaigns");
  let text;
  try { text = decodeURIComponent(match[1]); } catch { return; }
  if (SHAPE.test(text)) sessionStorage.setItem(KEY, text);
}

// Keep a token if the backend takes it.
export async function signIn(text) {
  if (!SHAPE.test(text)) throw new SignedOut();
  await request("/page/api/summary", {}, text);
  sessionStorage.setItem(KEY, text);
}

// Raises SignedOut, Refused or Unreachable.
export async function request(path, options = {}, withToken = token()) {
  if (!withToken) throw new SignedOut();
  let response;
  try {
    response = await fetch(path, {
      ...options, cache: "no-store", credentials: "omit",
      headers: { ...options.headers, Authorization: `Bearer ${withToken}` },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable();
  }
  if (response.status === 401) throw new SignedOut();
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Refused(response.status, body.errorMessage ?? `The backend answered ${response.status}`);
  }
  return response;
}

// Data of the page; parameters that are null, false or empty are left out.
export async function read(path, parameters = {}, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) =>
    value !== null && value !== undefined && value !== false && value !== "");
  const query = new URLSearchParams(given).toString();
  const response = await request(`/page/api/${path}${query && `?${query}`}`, { signal });
  return response.json();
}
