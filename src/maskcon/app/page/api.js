// Requests to the server that this page came from; whatever it refuses becomes an error in words.

const GONE = "The server does not answer. Is maskcon still running in its terminal?";

async function asked(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error(GONE);
  }
  if (response.ok) return response;
  let words = `The server said ${response.status} ${response.statusText}`;
  try {
    words = (await response.json()).error ?? words;
  } catch { /* no JSON: the status has to do */ }
  throw Object.assign(new Error(words), { status: response.status });
}

const query = (values) => {
  const text = new URLSearchParams(values).toString();
  return text ? `?${text}` : "";
};

/** What a GET answers, as JSON. */
export async function get(path, values = {}, options = {}) {
  return (await asked(`api/${path}${query(values)}`, options)).json();
}

/** What a GET answers, as numbers of a kind such as Int32Array. */
export async function numbers(path, Kind) {
  return new Kind(await (await asked(`api/${path}`)).arrayBuffer());
}

/** What a POST of JSON answers, as JSON. */
export async function post(path, body = {}) {
  const headers = { "Content-Type": "application/json" };
  return (await asked(`api/${path}`, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** What a POST of a picture answers. */
export async function postPicture(path, values, file) {
  const headers = { "Content-Type": file.type || "image/unknown" };
  const options = { method: "POST", headers, body: file };
  return (await asked(`api/${path}${query(values)}`, options)).json();
}

export const thumbOf = (id, size) => `thumb/${id}?size=${size}`;
export const pictureOf = (id) => `picture/${id}`;
