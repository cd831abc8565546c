/** Something from the kernel that does not have the shape agreed on: where, which value, what was wanted. */
export class MalformedMessage extends Error {
  constructor(
    readonly where: string,
    readonly value: unknown,
    readonly wanted: string,
  ) {
    super(`${where} is ${show(value)}, not ${wanted}`);
    this.name = "MalformedMessage";
  }
}

/** At most 60 characters of a value, in the notation it travelled in. */
function show(value: unknown): string {
  const isNumeric = typeof value === "number" || typeof value === "bigint";
  const json = isNumeric ? `${value}` : (JSON.stringify(value) ?? "missing");
  return json.length > 60 ? `${json.slice(0, 59)}…` : json;
}
