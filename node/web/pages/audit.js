/** What the audits of a request amount to, as a word with a shape. */
import { html } from "./view.js";
import { Badge } from "./parts.js";
import { layers, plural } from "./format.js";

/**
 * @param {{hops: object[], audits_open: number, doubtful: boolean, outcome: string}} request a hop has `audits` with their findings
 * @returns {{kind: "ok"|"wait"|"warn"|"bad", words: string, brief: string, open: boolean, layers: string[]}}
 */
export function auditOf(request) {
  const stages = request.hops ?? [];
  const findings = stages.map((hop) => (hop.audits ?? []).map((audit) => audit.finding));
  const audited = findings.filter((each) => each.some((finding) => finding !== "error")).length;
  const open = request.audits_open > 0;
  const failed = stages.filter((hop) => hop.doubtful).map((hop) => layers(hop.layers));
  const say = (kind, words, brief = words) => ({ kind, words, brief, open, layers: failed });
  if (request.doubtful) return say("bad", failed.length ? `doubtful: layers ${failed.join(", ")}` : "doubtful");
  if (request.outcome === "running") return say("wait", "audit follows", "running");
  if (open) return say("wait", audited ? `${audited} of ${plural(stages.length, "stage")} audited, more follows` : "audit follows", "running");
  if (findings.some((each) => each.includes("grey"))) return say("warn", "audit undecided", "undecided");
  if (audited) return say("ok", `${audited} of ${plural(stages.length, "stage")} audited`, "passed");
  if (findings.some((each) => each.length)) return say("wait", "audit not possible", "not possible");
  return say("wait", "not audited", "not audited");
}

/** The badge of that. */
export const AuditBadge = ({ audit, brief }) => html`<${Badge} kind=${audit.kind} title=${brief ? audit.words : undefined}>${brief ? audit.brief : audit.words}<//>`;
