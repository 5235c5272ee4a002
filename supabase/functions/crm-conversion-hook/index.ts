// Stands at the address of the old Edge Function and hands every request on to closedloop, for CRMs whose
// webhook address cannot be changed. How to put it there: docs/ru/supabase.md.
//
// Deploy with `--no-verify-jwt`: a CRM cannot send a project's JWT, and the only one that it could know is the
// public anon key, which proves nothing. Who may write is decided by closedloop, by the site's own key.

// What belongs to one connection or to the network on the way, and not to the message (a Cloudflare zone
// refuses a request that claims to have come through Cloudflare already). Everything else passes, Authorization too.
const HOP =
  /^(host|content-length|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|accept-encoding|proxy-.*|cf-.*|cdn-loop)$/;

const passed = (headers: Headers) => new Headers([...headers].filter(([name]) => !HOP.test(name)));

Deno.serve(async (request) => {
  try {
    const url = Deno.env.get("CLOSEDLOOP_URL")!.trim().replace(/\/+$/, "");
    const headers = passed(request.headers);
    headers.set("accept-encoding", "identity"); // else fetch would unpack the answer, and it would not be the same
    const key = Deno.env.get("CLOSEDLOOP_KEY");
    if (key && !headers.has("x-webhook-key")) headers.set("x-webhook-key", key);
    const answer = await fetch(`${url}/functions/v1/crm-conversion-hook${new URL(request.url).search}`, {
      method: request.method,
      headers,
      body: ["GET", "HEAD"].includes(request.method) ? undefined : await request.arrayBuffer(),
      redirect: "manual",
      signal: AbortSignal.timeout(10_000), // closedloop answers within 3 s, or not at all
    });
    const body = answer.body && await answer.arrayBuffer(); // whole, so that half an answer becomes the 503 below
    return new Response(body, { status: answer.status, headers: passed(answer.headers) });
  } catch (error) {
    console.error("closedloop cannot be reached; is the secret CLOSEDLOOP_URL right?", error);
    const body = { error: "closedloop cannot be reached from this relay. Send it again; repeating it is harmless." };
    return Response.json(body, { status: 503, headers: { "retry-after": "60", "access-control-allow-origin": "*" } });
  }
});
