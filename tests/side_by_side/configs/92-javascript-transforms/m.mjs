export default async (output, context) => output + context.vars.q;
