use super::*;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

/// A job that blocks until the sender is dropped or used, and then answers.
fn blocked() -> (mpsc::Sender<()>, impl FnOnce() -> u32 + Send + 'static) {
    let (release, gate) = mpsc::channel::<()>();
    let job = move || {
        let _ = gate.recv();
        1
    };
    (release, job)
}

#[tokio::test]
async fn jobs_run_one_after_another_in_one_named_thread() {
    let lane = Lane::new("lane-test");
    let mut threads = Vec::new();
    for n in 0..3 {
        let job = move || (n, thread::current().id(), thread::current().name().map(str::to_owned));
        threads.push(lane.run("naming", LONG, job).await.unwrap());
    }
    assert_eq!(threads.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(threads.iter().all(|it| it.1 == threads[0].1));
    assert_eq!(threads[0].2.as_deref(), Some("lane-test"));
}

#[tokio::test]
async fn idle_waits_for_the_running_job_and_not_for_ever() {
    let lane = Lane::new("lane-test");
    assert!(lane.idle(Duration::ZERO).await);
    let (release, job) = blocked();
    let running = lane.run("running", LONG, job);
    tokio::pin!(running);
    assert!(futures::poll!(&mut running).is_pending());
    assert!(!lane.idle(SHORT).await);
    drop(release);
    assert!(lane.idle(LONG).await && lane.busy_since().is_none());
    assert_eq!(running.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_overdue_job_is_named_to_its_caller_and_at_once_to_the_next() {
    let lane = Lane::new("lane-test");
    let (release, job) = blocked();
    let begun = Instant::now();
    let first = lane.run("reading the share", LONG, job).await.unwrap_err();
    assert!(
        matches!(&first, LaneError::Hung { what, since } if what == "reading the share" && *since == begun)
    );
    assert_eq!(begun.elapsed().as_secs(), LONG.as_secs());
    assert_eq!(lane.busy_since(), Some(begun));

    for _ in 0..1000 {
        let next = lane.run("another", LONG, || 2).await.unwrap_err();
        assert!(
            matches!(next, LaneError::Hung { what, since } if what == "reading the share" && since == begun)
        );
    }
    assert_eq!(begun.elapsed().as_secs(), LONG.as_secs(), "nobody waited");
    drop(release);
}

#[tokio::test]
async fn the_late_result_is_dropped_and_the_lane_is_free_again() {
    let lane = Lane::new("lane-test");
    let (release, job) = blocked();
    let dropped = Arc::new(());
    let held = Arc::clone(&dropped);
    let late = lane.run("late", SHORT, move || {
        job();
        held
    });
    assert!(matches!(late.await, Err(LaneError::Hung { .. })));
    drop(release);
    // The job is overdue, so this is answered at once until the job has come back.
    let free = async {
        while lane.run("next", LONG, || 2).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, free).await.expect("the lane is free again");
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_waits_for_a_job_within_its_time_and_no_longer_than_its_own() {
    let lane = Arc::new(Lane::new("lane-test"));
    let (release, job) = blocked();
    let first = tokio::spawn({
        let lane = Arc::clone(&lane);
        async move { lane.run("slow", LONG, job).await }
    });
    tokio::task::yield_now().await;
    let begun = Instant::now();
    let second = lane.run("quick", LONG / 2, || 2).await.unwrap_err();
    assert!(matches!(second, LaneError::Hung { what, .. } if what == "slow"));
    assert_eq!(begun.elapsed().as_secs(), (LONG / 2).as_secs());
    drop(release);
    first.abort();
}

#[tokio::test]
async fn waiters_get_their_turn_in_order() {
    let lane = Arc::new(Lane::new("lane-test"));
    let (release, job) = blocked();
    let mut all = vec![tokio::spawn({
        let lane = Arc::clone(&lane);
        async move { lane.run("first", LONG, job).await.unwrap() }
    })];
    for n in 2..20 {
        let lane = Arc::clone(&lane);
        all.push(tokio::spawn(async move { lane.run("more", LONG, move || n).await.unwrap() }));
    }
    tokio::task::yield_now().await;
    drop(release);
    let mut sum = 0;
    for one in all {
        sum += one.await.unwrap();
    }
    assert_eq!(sum, (1..20).sum::<u32>());
}

#[tokio::test]
async fn a_cancelled_caller_leaves_its_job_running_and_the_deadline_stands() {
    let lane = Lane::new("lane-test");
    let (release, job) = blocked();
    {
        let call = lane.run("abandoned", SHORT, job);
        // Cancelled at its first rest, or overdue already on a loaded machine.
        let gone = timeout(Duration::ZERO, call).await;
        assert!(!matches!(gone, Ok(Ok(_))));
    }
    let next = lane.run("next", LONG, || 2).await.unwrap_err();
    assert!(matches!(next, LaneError::Hung { what, .. } if what == "abandoned"));
    drop(release);
}

#[tokio::test]
async fn a_panic_is_reported_and_the_lane_lives_on() {
    let lane = Lane::new("lane-test");
    let err = lane.run("breaking", LONG, || -> u32 { panic!("bad {}", 7) }).await.unwrap_err();
    assert_eq!(err.to_string(), "breaking panicked: bad 7");
    assert_eq!(lane.run("next", LONG, || 3).await.unwrap(), 3);
}

#[tokio::test]
async fn dropping_a_lane_does_not_wait_for_its_job() {
    let lane = Lane::new("lane-test");
    let (release, job) = blocked();
    assert!(lane.run("stuck", SHORT, job).await.is_err());
    drop(lane);
    // Here the job is still blocked: the drop above would never have returned.
    release.send(()).unwrap();
}
