export const chat = async ({ vars }) => [{ role: 'user', content: `made ${vars.x}` }];
export function text({ vars }) {
  return 'made {{x}} ' + vars.y;
}
