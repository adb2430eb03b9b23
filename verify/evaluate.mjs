// Evaluates requests with @cloud-copilot/iam-simulate, which is not part of Rolecall: a line of JSON for each line of JSON.
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const { runSimulation } = createRequire(join(process.argv[2], "package.json"))("@cloud-copilot/iam-simulate");

for await (const line of createInterface({ input: process.stdin })) {
  const { documents, requests } = JSON.parse(line);
  const byName = (names) => names.map((name) => ({ name, policy: documents[name] }));
  const decisions = [];
  for (const { identity, boundary, resource_policy: trust, ...request } of requests) {
    const simulation = {
      request,
      identityPolicies: byName(identity),
      permissionBoundaryPolicies: boundary === null ? undefined : byName([boundary]),
      resourcePolicy: trust === null ? undefined : documents[trust],
      serviceControlPolicies: [{ orgIdentifier: "r-root", policies: byName(["FullAWSAccess"]) }],
      resourceControlPolicies: [],
    };
    const result = await runSimulation(simulation, {});
    decisions.push(result.resultType === "error" ? JSON.stringify(result.errors) : result.overallResult);
  }
  console.log(JSON.stringify(decisions));
}
