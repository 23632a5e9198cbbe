//! A place on this machine where keys are published, over plain HTTP.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Answers every request with what it was told to.
pub struct Publisher {
    address: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Publisher {
    /// Publishes this from now on.
    pub fn start(body: &str) -> Publisher {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (answer, asked) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
        let publisher = Publisher { address, answer: Arc::clone(&answer), asked: Arc::clone(&asked) };
        publisher.publish(body);
        // Ends with the process of the tests.
        thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                let head = BufReader::new(&socket).lines().map_while(Result::ok);
                if head.take_while(|line| !line.is_empty()).count() > 0 {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let answer = answer.lock().unwrap().clone();
                    let _ = socket.write_all(answer.as_bytes());
                }
            }
        });
        publisher
    }

    /// What is answered with status 200.
    pub fn publish(&self, body: &str) {
        self.answer("200 OK", body);
    }

    /// What is answered.
    pub fn answer(&self, status: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nLocation: /\r\nConnection: close\r\n\r\n{body}");
    }

    /// What is sent, as it stands here.
    pub fn answer_raw(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap());
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn url(&self) -> String {
        format!("http://{}/.well-known/jwks.json?apikey=sesame", self.address)
    }
}
