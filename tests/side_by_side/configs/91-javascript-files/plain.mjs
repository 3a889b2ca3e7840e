const limit = 3;
export default function check(output) {
  return output.length > limit;
}
