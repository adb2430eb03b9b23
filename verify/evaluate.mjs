// Asks @cloud-copilot/iam-simulate, which is no part of Rolecall, about requests: JSON in by standard input, JSON out.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const { runSimulation } = createRequire(join(process.argv[2], "package.json"))("@cloud-copilot/iam-simulate");
const { documents, requests } = JSON.parse(readFileSync(0, "utf8"));
const named = (names) => names.map((name) => ({ name, policy: documents[name] }));

const answers = [];
for (const { identity, resource_policy: trust, ...request } of requests) {
  const asked = {
    request,
    identityPolicies: named(identity),
    resourcePolicy: trust === null ? undefined : documents[trust],
    serviceControlPolicies: [{ orgIdentifier: "r-root", policies: named(["FullAWSAccess"]) }],
    resourceControlPolicies: [],
  };
  const answer = await runSimulation(asked, {});
  answers.push(answer.resultType === "error" ? JSON.stringify(answer.errors) : answer.overallResult);
}
console.log(JSON.stringify(answers));
