// An agent with Anthropic's official SDK for TypeScript: it knows only the environment that the worker gives it.
// The argument is the SDK's module. Prints one line of JSON for each request.

const { default: Anthropic } = await import(process.argv[2]);
const client = new Anthropic({ maxRetries: 1 });
const question = {
    model: 'claude-sonnet-5-5',
    max_tokens: 100,
    messages: [{ role: 'user', content: 'Hello' }],
};

// Prints the result of a request, or its error.
async function printResult(name, ask) {
    try {
        console.log(JSON.stringify({ name, ...(await ask()) }));
    } catch (error) {
        console.log(JSON.stringify({ name, status: error.status, type: error.error?.error?.type, message: error.message }));
    }
}

await printResult('stream', async () => {
    const kinds = [];
    const stream = client.messages.stream(question).on('streamEvent', (event) => kinds.push(event.type));
    const message = await stream.finalMessage();
    return { kinds, text: message.content[0].text, usage: message.usage };
});
await printResult('error', async () => client.messages.create(question));
await printResult('retry', async () => ({ text: (await client.messages.create(question)).content[0].text }));
await printResult('limit', async () => client.messages.create(question));
