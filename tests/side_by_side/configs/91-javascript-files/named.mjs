export const good = (output) => output === 'good';
export function bad(output) {
  return !good(output);
}
const other = () => 0.4;
export { other, other as again };
