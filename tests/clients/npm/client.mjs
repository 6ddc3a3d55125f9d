// Drives Carillon with the vendor's npm client, unmodified. Arguments: base URL, key, and what to do.
import { OpenAPI, AiMentorService } from '@iblai/iblai-api';
import assert from 'node:assert/strict';

const [base, key, task, mentor] = process.argv.slice(2);
OpenAPI.BASE = base;
OpenAPI.HEADERS = { Authorization: `Api-Token ${key}` };
const place = { org: 'acme', userId: 'ann@acme.example' };

const refused = async (status, promise) => {
    const error = await promise.then(() => null, (error) => error);
    assert.equal(error?.status, status, error?.body ? JSON.stringify(error.body) : String(error));
    return error.body;
};

/** An agent of that mentor that fires every minute; prints its id. */
async function create() {
    const requestBody = { mentor, title: 'By npm', prompt: 'Say this.', task: { crontab: {} } };
    const agent = await AiMentorService.aiMentorOrgsUsersPeriodicAgentsCreate({ ...place, requestBody });
    assert.equal(agent.mentor, mentor);
    console.log(agent.id);
}

/** Everything that the client does with periodic agents. */
async function drive() {
    const made = await AiMentorService.aiMentorOrgsUsersMentorWithSettingsCreate({
        ...place,
        formData: {
            template_name: 'ai-mentor', new_mentor_name: 'npm-mentor', display_name: 'Npm', llm_provider: 'echo',
            llm_name: 'echo', categories: [], metadata: { from: 'npm' }, allow_anonymous: true,
        },
    });
    assert.deepEqual([made.name, made.metadata], ['npm-mentor', { from: 'npm' }]);
    const found = await AiMentorService.aiMentorOrgsUsersRetrieve?.({ ...place, name: 'npm-mentor' });
    assert.equal(found?.unique_id, made.unique_id);

    // On a day that does not come in our time, so that it fires at no full hour meanwhile.
    const hourly = { crontab: { minute: '0', day_of_month: '29', month_of_year: '2' }, enabled: true };
    const requestBody = { mentor: made.unique_id, title: 'Daily', task: hourly, callback_secret: 's3cret' };
    const agent = await AiMentorService.aiMentorOrgsUsersPeriodicAgentsCreate({ ...place, requestBody });
    const id = agent.id;
    const read = await AiMentorService.aiMentorOrgsUsersPeriodicAgentsRetrieve({ ...place, id });
    assert.deepEqual([read.mentor.unique_id, read.username], [made.unique_id, place.userId]);

    const list = (query) => AiMentorService.aiMentorOrgsUsersPeriodicAgentsList({ ...place, ...query });
    for (const [query, count] of [
        [{ pageSize: 5 }, 1], [{ enabled: true }, 1], [{ enabled: false }, 0], [{ mentorId: made.unique_id }, 1],
        [{ title: 'Daily' }, 1], [{ title: 'daily' }, 0], [{ search: 'dai' }, 1], [{ status: 'pending' }, 1],
        [{ username: place.userId, ordering: '-created_at', page: 1 }, 1], [{ previousAgentStatus: 'error' }, 0],
    ]) {
        assert.equal((await list(query)).count, count, JSON.stringify(query));
    }
    await refused(404, list({ page: 2 }));

    const update = { ...requestBody, title: 'Weekly', task: { crontab: { minute: '0', hour: '7', day_of_week: '1' } } };
    const put = await AiMentorService.aiMentorOrgsUsersPeriodicAgentsUpdate({ ...place, id, requestBody: update });
    assert.deepEqual([put.title, put.task.crontab.hour], ['Weekly', '7']);
    const patch = { task: { enabled: false } };
    const patched = await AiMentorService.aiMentorOrgsUsersPeriodicAgentsPartialUpdate({ ...place, id, requestBody: patch });
    assert.deepEqual([patched.enabled, patched.task.crontab.hour], [false, '7']);
    const bad = await refused(400, AiMentorService.aiMentorOrgsUsersPeriodicAgentsCreate({ ...place, requestBody: {} }));
    assert.deepEqual(Object.keys(bad).sort(), ['mentor', 'task', 'title']);

    const logs = await AiMentorService.aiMentorOrgsUsersPeriodicAgentLogsList({ ...place, periodicAgent: id });
    assert.deepEqual([logs.count, logs.results], [0, []]);
    const counts = await AiMentorService.aiMentorOrgsUsersPeriodicAgentsStatisticsRetrieve({ ...place });
    assert.deepEqual([counts.total_tasks, counts.pending_tasks], [1, 1]);
    assert.equal(await AiMentorService.aiMentorOrgsUsersPeriodicAgentsDestroy({ ...place, id }), undefined);
    await refused(404, AiMentorService.aiMentorOrgsUsersPeriodicAgentsRetrieve({ ...place, id }));

    // The other way to give the key.
    OpenAPI.HEADERS = undefined;
    OpenAPI.TOKEN = key;
    assert.equal((await list({})).count, 0);
    OpenAPI.TOKEN = 'not-a-key';
    assert.equal((await refused(401, list({}))).detail, 'Invalid token.');
}

await { create, drive }[task]();
